"""Reasons that name the setting which refused a picture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec.storage.photos.limits import has_grown, limit

VALUES = st.floats(1e-6, 1e9)


@given(VALUES, VALUES)
def test_a_reason_tells_whether_its_setting_has_grown(then: float, now: float) -> None:
    reason = f"3×2 pixels are more than {limit('max_megapixels', then)}"
    said, says = float(f"{then:g}"), float(f"{now:g}")
    assert has_grown(reason, {"max_megapixels": now, "decode_timeout_s": 1e12}) == (says > said)


@given(VALUES)
def test_the_same_value_has_not_grown(value: float) -> None:
    assert not has_grown(f"longer than {limit('decode_timeout_s', value)}", {"decode_timeout_s": value})


@pytest.mark.parametrize("reason", [None, "", "2.1 GB are too many", "workers = 3", "max_megapixels = x"])
def test_a_reason_without_a_limit_never_has(reason: str | None) -> None:
    assert not has_grown(reason, {"max_megapixels": 1e12, "decode_timeout_s": 1e12})
