"""What an ingest left alone beside photos, and why, as one line for people."""

from collections.abc import Mapping

# So many suffixes are named; `--json` has all.
MOST_SUFFIXES = 8
_NO_SUFFIX = "no suffix"
_HEIC = ("HEIC photo", "HEIC photos", "read after `pip install 'image-recommender[heif]'`")
# One, several, and why.
_KINDS = {
    ".heic": _HEIC,
    ".heif": _HEIC,
    "symlink": ("symbolic link", "symbolic links", "not followed"),
    "library": ("folder", "folders", "a library, whose pictures are no photos"),
    "macOS twin": ("`._` file of macOS", "`._` files of macOS", "no pictures"),
    "device, socket or pipe": ("device, socket or pipe", "devices, sockets or pipes", "no files"),
}


def describe_other_files(counts: Mapping[str, int]) -> str:
    """Say how many files of which kinds were left alone, and why; `counts` is `WalkReport.other_files`."""
    suffixes = {
        kind: count
        for kind, count in counts.items()
        if kind not in _KINDS and (kind.startswith(".") or kind == _NO_SUFFIX)
    }
    parts = []
    if suffixes:
        total = sum(suffixes.values())
        parts.append(f"{total:,} {'file' if total == 1 else 'files'} not named as pictures are ({_most(suffixes)})")
    for kind in sorted(counts.keys() - suffixes.keys()):
        one, several, why = _KINDS.get(kind, (kind, kind, "no photos"))
        parts.append(f"{counts[kind]:,} {one if counts[kind] == 1 else several} ({why})")
    return f"left alone: {', '.join(parts)}"


def _most(suffixes: Mapping[str, int]) -> str:
    ordered = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    named, rest = ordered[:MOST_SUFFIXES], ordered[MOST_SUFFIXES:]
    told = [f"{count:,} {'without suffix' if kind == _NO_SUFFIX else kind}" for kind, count in named]
    if rest:
        told.append(f"{sum(count for _, count in rest):,} of {len(rest):,} other kinds that --json lists")
    return ", ".join(told)
