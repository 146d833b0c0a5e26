"""Which photo of a group to keep: rules in an order that the user gives, and the reason in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imgrec.search.duplicates.errors import KeepRuleError
from imgrec.storage.registry.duplicates import CopyFacts

DEFAULT_RULES = ("pixels", "bytes", "format", "date", "folder")
# From what a camera or a scanner made down to what was made for the web; of equal pixels the first one is kept.
_FORMATS = (
    ("DNG", "CR2", "CR3", "NEF", "ARW", "RAF", "RW2", "ORF", "PEF", "SRW"),
    ("TIFF",),
    ("PNG", "BMP", "PPM"),
    ("JXL", "HEIF", "HEIC", "AVIF", "JPEG2000"),
    ("JPEG", "MPO"),
    ("WEBP",),
    ("GIF",),
)
_THE_OTHER_WAY = {
    "pixels": "fewest pixels",
    "bytes": "smallest file",
    "format": "lightest format",
    "date": "newest",
    "folder": "folder that is not preferred",
}


@dataclass(frozen=True)
class Rule:
    """One reason to prefer a photo: `value` is larger for the better one, `shown` is what people are told of it."""

    name: str
    better: str
    value: Callable[[CopyFacts], int]
    shown: Callable[[CopyFacts], str]


@dataclass(frozen=True)
class Choice:
    """The photo of a group that is kept, and the rule by which it is better than another; None where no rule tells."""

    kept: CopyFacts
    rules: tuple[Rule, ...]

    def why_kept(self, others: Sequence[CopyFacts]) -> str:
        """Say by which rule the kept photo won over its closest rival."""
        rivals = [other for other in others if other.id != self.kept.id]
        if not rivals:
            return "alone"
        rule = self._deciding(max(rivals, key=lambda other: _rank(self.rules, other)))
        return "alike in all; known longest" if rule is None else f"{rule.better}: {rule.shown(self.kept)}"

    def why_not(self, other: CopyFacts) -> str:
        """Say by which rule another photo lost to the one that is kept."""
        rule = self._deciding(other)
        if rule is None:
            return f"like {self.kept.id} in all; known later"
        return f"{rule.shown(other)}, and {self.kept.id} has {rule.shown(self.kept)}"

    def _deciding(self, other: CopyFacts) -> Rule | None:
        return next((rule for rule in self.rules if rule.value(self.kept) != rule.value(other)), None)


def parse_rules(names: Sequence[str] = DEFAULT_RULES, preferred: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Make rules of their names; `-` before one turns it around (`-date` keeps the newest).

    Args:
        names: of pixels, bytes, format, date, folder.
        preferred: folders, relative to that of the photos, whose photos `folder` prefers, in this order. Without any
            it tells nothing.

    Raises:
        KeepRuleError: there is no such rule, or one is named twice.
    """
    rules: list[Rule] = []
    for name in names:
        bare = name.removeprefix("-")
        if bare not in DEFAULT_RULES or bare in {rule.name for rule in rules}:
            what = "is named twice" if bare in DEFAULT_RULES else "is no rule"
            raise KeepRuleError(
                f"{name!r} {what}: there are {', '.join(DEFAULT_RULES)}, and -NAME for the other way round"
            )
        rule = _rule(bare, tuple(folder.strip("/") for folder in preferred))
        rules.append(_turned(rule) if name.startswith("-") else rule)
    return tuple(rules)


def choose(rules: Sequence[Rule], photos: Sequence[CopyFacts]) -> Choice:
    """Choose the photo to keep; where no rule tells two apart, the one with the lower id."""
    return Choice(max(photos, key=lambda photo: (_rank(rules, photo), -photo.id)), tuple(rules))


def _rank(rules: Sequence[Rule], photo: CopyFacts) -> tuple[int, ...]:
    return tuple(rule.value(photo) for rule in rules)


def _rule(name: str, preferred: tuple[str, ...]) -> Rule:
    if name == "pixels":
        return Rule(name, "most pixels", lambda p: p.width * p.height, lambda p: f"{p.width} × {p.height} pixels")
    if name == "bytes":
        return Rule(name, "largest file", lambda p: p.size, lambda p: f"{p.size:,} bytes")
    if name == "format":
        return Rule(name, "best format", lambda p: -_place_of_format(p.format), lambda p: f"format {p.format}")
    if name == "date":
        return Rule(name, "oldest", lambda p: -(p.mtime_ns // 10**9), lambda p: f"date {_date(p.mtime_ns)}")
    return Rule(
        name, "preferred folder", lambda p: -_place_of_folder(p, preferred), lambda p: f"folder {_folder(p) or '.'}"
    )


def _turned(rule: Rule) -> Rule:
    value = rule.value
    return Rule(rule.name, _THE_OTHER_WAY[rule.name], lambda photo: -value(photo), rule.shown)


def _place_of_format(name: str) -> int:
    return next((place for place, names in enumerate(_FORMATS) if name.upper() in names), len(_FORMATS))


def _date(mtime_ns: int) -> str:
    return f"{datetime.fromtimestamp(mtime_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}"


def _folder(photo: CopyFacts) -> str:
    return photo.path.rpartition("/")[0]


def _place_of_folder(photo: CopyFacts, preferred: tuple[str, ...]) -> int:
    folder = f"{_folder(photo)}/"
    return next((place for place, name in enumerate(preferred) if folder.startswith(f"{name}/")), len(preferred))
