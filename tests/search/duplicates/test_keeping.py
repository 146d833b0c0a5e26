"""Which photo is kept, and why."""

import pytest

from imgrec.search.duplicates.errors import KeepRuleError
from imgrec.search.duplicates.keeping import DEFAULT_RULES, choose, parse_rules
from imgrec.storage.registry.duplicates import CopyFacts


def photo(
    image_id: int, path: str = "a.jpg", size: int = 1, side: int = 10, kind: str = "JPEG", mtime_s: int = 0
) -> CopyFacts:
    return CopyFacts(image_id, path, path, size, side, side, kind, mtime_s * 10**9, b"")


@pytest.mark.parametrize(
    ("rules", "preferred", "better", "why"),
    [
        (DEFAULT_RULES, (), photo(2, side=20), "most pixels: 20 × 20 pixels"),
        (("-pixels",), (), photo(2, side=5), "fewest pixels: 5 × 5 pixels"),
        (DEFAULT_RULES, (), photo(2, size=2_000), "largest file: 2,000 bytes"),
        (("-bytes", "pixels"), (), photo(2, size=0, side=5), "smallest file: 0 bytes"),
        (DEFAULT_RULES, (), photo(2, kind="DNG"), "best format: format DNG"),
        (("format",), (), photo(2, kind="PNG"), "best format: format PNG"),
        (DEFAULT_RULES, (), photo(2, mtime_s=-60), "oldest: date 1969-12-31 23:59:00"),
        (("-date",), (), photo(2, mtime_s=60), "newest: date 1970-01-01 00:01:00"),
        (("folder", "pixels"), ("Best", "Albums/"), photo(2, "Albums/2024/a.jpg", side=5),
         "preferred folder: folder Albums/2024"),
        (DEFAULT_RULES, (), photo(0), "alike in all; known longest"),
    ],
)  # fmt: skip
def test_the_better_one_is_kept(
    rules: tuple[str, ...], preferred: tuple[str, ...], better: CopyFacts, why: str
) -> None:
    other = photo(1)
    choice = choose(parse_rules(rules, preferred), [other, better])

    assert choice.kept == better
    assert choice.why_kept([other, better]) == why
    assert str(better.id) in choice.why_not(other)


def test_the_first_rule_that_tells_two_apart_decides() -> None:
    small_raw, large_jpeg = photo(1, kind="NEF", side=5), photo(2, side=20)

    assert choose(parse_rules(["format", "pixels"]), [small_raw, large_jpeg]).kept == small_raw
    assert choose(parse_rules(["pixels", "format"]), [small_raw, large_jpeg]).kept == large_jpeg


@pytest.mark.parametrize("names", [["beauty"], ["pixels", "-pixels"], [""]])
def test_unknown_rules_are_refused(names: list[str]) -> None:
    with pytest.raises(KeepRuleError, match="pixels, bytes, format, date, folder"):
        parse_rules(names)
