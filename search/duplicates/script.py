"""A shell script that clears away what is not kept: for the user to read and to run. We run nothing."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from imgrec.search.duplicates.groups import Copy, Group
from imgrec.storage.machine.atomic import atomic_path

TRASH, MOVE, REMOVE = "trash", "mv", "rm"
WAYS = (TRASH, MOVE, REMOVE)

_HEAD = rb"""#!/bin/sh
# Written by `imgrec duplicates`, which deleted and moved nothing. Read this before you run it:
#   sh THIS_FILE -n    says what it would do
#   sh THIS_FILE       does it
# A file goes only if it and the one that is kept in its place still have the bytes that they had for imgrec.
set -u
LC_ALL=C; export LC_ALL
dry=; [ "${1-}" = -n ] && dry=1
gone=0; left=0; kept=

same() { # sha256 file
  [ -f "$2" ] && [ ! -L "$2" ] || return 1
  sum=$(sha256sum < "$2") || return 1
  [ "${sum%% *}" = "$1" ]
}
keep() { # sha256 file: what follows goes in its favour
  if same "$1" "$2"; then kept=$2; else kept=; printf 'not as it was, so its copies stay: %s\n' "$2" >&2; fi
}
drop() { # sha256 file path-below-the-photos
  if [ -z "$kept" ] || [ "$2" -ef "$kept" ]; then left=$((left + 1)); return; fi
  if ! same "$1" "$2"; then left=$((left + 1)); printf 'not as it was, left alone: %s\n' "$2" >&2; return; fi
  if [ -n "$dry" ]; then printf 'would go: %s\n' "$2"; gone=$((gone + 1)); return; fi
  if clear_away "$2" "$3"; then gone=$((gone + 1)); else left=$((left + 1)); printf 'failed: %s\n' "$2" >&2; fi
}
command -v sha256sum > /dev/null || { echo 'sha256sum is missing (coreutils)' >&2; exit 1; }
"""
_CLEAR_AWAY = {
    TRASH: rb"""if command -v gio > /dev/null; then clear_away() { gio trash -- "$1"; }
elif command -v trash-put > /dev/null; then clear_away() { trash-put -- "$1"; }
else echo 'neither gio nor trash-put is installed: imgrec duplicates --script FILE --by mv' >&2; exit 1; fi
""",
    MOVE: rb"""clear_away() {
  to=$target/$2
  if [ -e "$to" ] || [ -L "$to" ]; then printf 'already there: %s\n' "$to" >&2; return 1; fi
  mkdir -p -- "${to%/*}" && mv -- "$1" "$to"
}
""",
    REMOVE: rb"""clear_away() { rm -f -- "$1" && [ ! -e "$1" ]; }
""",
}
_TAIL = rb"""
verb=gone; [ -n "$dry" ] && verb='would go'
printf '%s: %s, left alone: %s\n' "$verb" "$gone" "$left"
[ "$left" -eq 0 ]
"""


def write_script(path: Path, groups: Iterable[Group], way: str, target: Path | None = None) -> int:
    """Write a POSIX shell script that clears away the photos of groups that are not kept; return how many.

    Names are quoted byte by byte, whatever they hold. `way` is `trash` (gio, trash-put), `mv` into the folder `target`,
    where a photo keeps its path, or `rm`.
    """
    count = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as script:
        script.write(_HEAD)
        if way == MOVE:
            script.write(b"target=" + quote(os.fspath(target or "")) + b"\n")
        script.write(_CLEAR_AWAY[way])
        for group in groups:
            count += _write_group(script.write, group)
        script.write(_TAIL)
    return count


def quote(name: str | bytes) -> bytes:
    """Quote a file name for a POSIX shell: between single quotes nothing means anything but the quote itself."""
    return b"'" + os.fsencode(name).replace(b"'", b"'\\''") + b"'"


def _write_group(write: Callable[[bytes], object], group: Group) -> int:
    """Write a group: each photo that stays for others, followed by these."""
    going: dict[int, list[Copy]] = {}
    for copy in group.copies:
        if copy.instead is not None:
            going.setdefault(copy.instead, []).append(copy)
    by_id = {copy.id: copy for copy in group.copies}
    for kept, copies in going.items():
        write(b"\n# group %d, %s\n" % (group.number, group.kind.encode()))
        write(b"keep %s %s\n" % (by_id[kept].content_hash.hex().encode(), quote(by_id[kept].file)))
        for copy in copies:
            names = quote(copy.file), quote(copy.below)
            write(b"drop %s %s %s\n" % (copy.content_hash.hex().encode(), *names))
    return sum(map(len, going.values()))
