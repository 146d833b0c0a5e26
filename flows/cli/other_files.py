"""What an ingest left alone beside photos, and why, as lines for people."""

from collections import Counter
from collections.abc import Mapping

from imgrec.storage.photos.formats import EXTRAS, HEIF, JXL, RAW, how_to_install
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.roots import Roots
from imgrec.storage.photos.walk import BROKEN_SYMLINK, DOUBLE_SYMLINK, LIBRARY, MACOS_TWIN, NO_SUFFIX, SPECIAL, SYMLINK

# So many suffixes are named; `--json` has all.
MOST_SUFFIXES = 8
_PHOTOS_OF = {HEIF: "HEIC photo", JXL: "JPEG XL photo", RAW: "camera's raw photo"}
_EXTRA_OF = {suffix: extra for extra in EXTRAS for suffix in extra.suffixes}
# One, several, and why.
_KINDS = {
    **{extra.name: (one, f"{one}s", f"read after {how_to_install(extra)}") for extra, one in _PHOTOS_OF.items()},
    SYMLINK: ("symbolic link", "symbolic links", "not followed: --follow-links takes what they lead to"),
    BROKEN_SYMLINK: ("symbolic link", "symbolic links", "broken"),
    DOUBLE_SYMLINK: ("symbolic link", "symbolic links", "to what is here already"),
    LIBRARY: ("folder", "folders", "a library, whose pictures are no photos"),
    MACOS_TWIN: ("`._` file of macOS", "`._` files of macOS", "no pictures"),
    SPECIAL: ("device, socket or pipe", "devices, sockets or pipes", "no files"),
}


def describe_left(other_files: Mapping[str, int], left_out: Mapping[str, int]) -> list[str]:
    """Say what was left alone, and what a rule leaves out; both are a `WalkReport`'s."""
    lines = [describe_other_files(other_files)] if other_files else []
    return lines + ([f"photos and folders left out by a rule: {_most(left_out)}"] if left_out else [])


def describe_other_files(counts: Mapping[str, int]) -> str:
    """Say how many files of which kinds were left alone, and why; `counts` is `WalkReport.other_files`."""
    suffixes, kinds = {}, Counter[str]()
    for kind, count in counts.items():
        if (extra := _EXTRA_OF.get(kind)) is not None:
            kinds[extra.name] += count
        elif kind.startswith(".") or kind == NO_SUFFIX:
            suffixes[kind] = count
        else:
            kinds[kind] += count
    parts = []
    if suffixes:
        total = sum(suffixes.values())
        parts.append(f"{total:,} {'file' if total == 1 else 'files'} not named as pictures are ({_most(suffixes)})")
    for kind, count in sorted(kinds.items()):
        one, several, why = _KINDS.get(kind, (kind, kind, "no photos"))
        parts.append(f"{count:,} {one if count == 1 else several} ({why})")
    return f"left alone: {', '.join(parts)}"


def _most(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named, rest = ordered[:MOST_SUFFIXES], ordered[MOST_SUFFIXES:]
    told = [f"{count:,} {'without suffix' if kind == NO_SUFFIX else kind}" for kind, count in named]
    if rest:
        told.append(f"{sum(count for _, count in rest):,} of {len(rest):,} other kinds that --json lists")
    return ", ".join(told)


def describe_left_alone(roots: Roots, name: str, reason: str) -> str:
    """Say that a root seems not to be mounted."""
    return (
        f"{printable(roots.describe(name))} is left alone, as if it were not mounted: {reason}. Its photos stay in the "
        "library as they are"
    )
