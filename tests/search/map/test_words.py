"""Words of clusters: what tells one from the others, and nothing where nothing does."""

from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.machine import Machine
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.search.map.clusters import Cluster
from imgrec.search.map.graph import Links
from imgrec.search.map.making import Map
from imgrec.search.map.words import find_words, keep_words, with_words, word_list
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from tests.embedders.openclip_files import write_folder
from tests.search.conftest import make_library
from tests.search.libraries import ingest, unit_rows


def test_the_list_names_each_thing_once() -> None:
    words = word_list()
    assert 1_000 <= len(words) <= 1_500
    assert len(set(words)) == len(words)
    assert all(word == word.strip() and word for word in words)


def test_a_word_has_to_tell_a_cluster_from_the_others() -> None:
    names = ["a sea", "a dog", "a photo", "nothing"]
    words = unit_rows(np.array([[1, 0, 0.5, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    centroids = unit_rows(np.array([[1, 0, 1, 0], [0, 1, 1, 0.0]]))
    assert find_words(centroids, words, names) == [("a sea",), ("a dog",)]
    assert find_words(centroids[[0, 0]], words, names) == [(), ()]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("models"), "cpu")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> Library:
    home = tmp_path_factory.mktemp("home")
    card = add_openclip(machine.models_root, "tiny", write_folder(home / "original")).card
    made = make_library(home)
    settings = {**made.vector_settings, "decode_min_side": 224, "openclip_model": card}
    made = made.with_vector_settings(settings).with_modalities(("color", "openclip"))
    ingest(made, models_root=machine.models_root)
    return made


def map_of(ids: list[int], *sizes: int) -> Map:
    cluster = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    nothing = np.empty(0, np.int64)
    return Map(
        ids=np.array(ids),
        flat=np.zeros((len(ids), 2), np.float32),
        deep=np.zeros((len(ids), 3), np.float32),
        cluster=cluster,
        community=cluster,
        isolation=np.zeros(len(ids), np.float32),
        origin=np.zeros(len(ids), np.uint8),
        clusters=tuple(Cluster(number, size, ids[0], 0, 0) for number, size in enumerate(sizes)),
        links=Links(nothing, nothing, np.empty(0, np.float32), 0),
        min_cluster_size=5,
    )


def test_clusters_of_a_library_that_reads_text_have_words(library: Library, machine: Machine, tmp_path: Path) -> None:
    with Registry.open_for_reading(library.registry_path) as registry:
        ids = sorted(registry.images(range(1, 1000)))
        made = map_of(ids, len(ids) // 2, len(ids) - len(ids) // 2)
        named = with_words(library, registry, made, machine)
        words = [cluster.words for cluster in named.clusters]
        assert set(words[0]).isdisjoint(words[1])
        assert set(words[0] + words[1]) <= set(word_list())
        assert keep_words(made, named).clusters == named.clusters
        one = map_of(ids, len(ids))
        assert with_words(library, registry, one, machine) == one  # nothing to tell it from
        without = with_words(library, registry, made, Machine(tmp_path, "cpu"))  # whose store is empty
        assert without is made
