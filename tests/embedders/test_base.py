"""Fingerprints, and the catalogue."""

from dataclasses import replace

import pytest

from imgrec.embedders.base import EmbedderSpec
from imgrec.embedders.catalogue import EMBEDDERS, create_embedder, create_embedders
from imgrec.embedders.errors import UnknownEmbedderError

SPEC = EmbedderSpec("color", 1, 8, 448, {"bins": [2, 2, 2]})


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, name="sift"),
        replace(SPEC, version=2),
        replace(SPEC, dim=9),
        replace(SPEC, decode_min_side=64),
        replace(SPEC, parameters={"bins": [2, 2, 3]}),
        replace(SPEC, parameters={"bins": [2, 2, 2], "space": "lab"}),
        replace(SPEC, parameters={}),
    ],
)
def test_whatever_changes_a_vector_changes_the_fingerprint(other: EmbedderSpec) -> None:
    assert other.fingerprint != SPEC.fingerprint


def test_what_changes_no_vector_changes_no_fingerprint() -> None:
    ordered = replace(SPEC, parameters={"a": 1, "b": 2})
    assert replace(SPEC, parameters={"b": 2, "a": 1}).fingerprint == ordered.fingerprint
    assert replace(SPEC, licence="other", origin="elsewhere").fingerprint == SPEC.fingerprint


def test_a_fingerprint_stays_what_it_was_in_the_first_release() -> None:
    """A change here makes every library of users embed everything anew."""
    assert SPEC.fingerprint == "a3cc910a264b5847"
    vector_settings = {"bins": [8, 8, 8], "decode_min_side": 448}
    assert create_embedder("color", vector_settings).spec.fingerprint == "83704ede0c1292d3"


def test_an_unknown_embedder_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownEmbedderError, match=f"no modality 'nose': there are .*{min(EMBEDDERS)}"):
        create_embedders(["nose"], {})
