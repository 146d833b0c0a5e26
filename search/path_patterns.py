"""Patterns of gitignore as conditions in SQL. SQLite's own GLOB judges most of them, without a call for every photo."""

import re
from collections.abc import Sequence

from imgrec.storage.errors import FilterError
from imgrec.storage.photos.exclusion import Pattern, PatternError, parse_patterns
from imgrec.storage.registry.conditions import Condition

# What GLOB can judge, or at least tell quickly what cannot match: no brackets, no backslashes.
_PLAIN = re.compile(r"!?[^\[\]\\]+")


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse what is no pattern.

    Raises:
        FilterError: one of them is none.
    """
    for pattern in patterns:
        try:
            if parse_patterns([pattern]):
                continue
        except PatternError:
            pass
        raise FilterError(f"path {pattern!r} is no pattern: give one as in a .gitignore, such as 2019/** or *.jpg")


def path_condition(patterns: Sequence[str]) -> Condition:
    """The last pattern that matches a path decides; where all of them begin with !, all others are in."""
    parsed = parse_patterns(patterns)  # the last one first
    cases: list[str] = []
    values: list[object] = []
    for pattern in parsed:
        condition = _of_one(pattern)
        cases.append(f"WHEN {condition.sql} THEN {int(pattern.takes_out)}")
        values += condition.values
    others = int(not any(pattern.takes_out for pattern in parsed))
    return Condition(f"CASE {' '.join(cases)} ELSE {others} END", tuple(values))


def _of_one(pattern: Pattern) -> Condition:
    """Whether it names an image's file, or a folder above it."""
    matches = Condition("path_matches(?, path)", (pattern.text,))
    if not _PLAIN.fullmatch(pattern.text):
        return matches
    text = pattern.text.removeprefix("!").rstrip()
    body = re.sub(r"/\*\*$", "/*", text.strip("/"))
    anchored = "/" in text.rstrip("/")
    glob = re.sub(r"\*{2,}", "*", re.sub(r"(/\*\*)+/", "/*", f"/{body}/"))[1:]
    subject, glob = ("path || '/'", f"{glob}*") if anchored else ("'/' || path || '/'", f"*/{glob}*")
    if _is_exact(body, anchored) and not text.endswith("/"):
        return Condition(f"{subject} GLOB ?", (glob,))
    return Condition(f"CASE WHEN {subject} GLOB ? THEN {matches.sql} ELSE 0 END", (glob, *matches.values))


def _is_exact(body: str, anchored: bool) -> bool:
    """Whether GLOB, whose * goes beyond a slash, matches what the pattern does: no * can make a difference."""
    if anchored:
        return re.fullmatch(r"[^*?]+(/\*)?", body) is not None
    return re.fullmatch(r"\*?[^*?]+\*?", body) is not None
