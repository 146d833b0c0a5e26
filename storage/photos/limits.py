"""Settings that refuse a picture: its reason names the setting and its value, wherever the failure is kept.

So a shard, an old registry, a copy of either say when another try is worth it, without a column for it.
"""

import re
from collections.abc import Mapping

_LIMIT = re.compile(r"\b([a-z_]+) = (\d+(?:\.\d+)?(?:e[+-]\d+)?)$")


def limit(setting: str, value: float) -> str:
    """Name a setting and its value, as the end of a reason."""
    return f"{setting} = {value:g}"


def names_limit(reason: str | None) -> bool:
    """Whether a reason ends with a setting that refused the picture."""
    return _LIMIT.search(reason or "") is not None


def has_grown(reason: str | None, now: Mapping[str, float]) -> bool:
    """Whether a setting that a reason ends with has a larger value `now`."""
    if (said := _LIMIT.search(reason or "")) is None or said[1] not in now:
        return False
    return float(f"{now[said[1]]:g}") > float(said[2])
