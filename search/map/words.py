"""What clusters show, in words: those of a list that a model which reads text finds nearer to them than to others."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files

import numpy as np

from imgrec.embedders.base import Embedder, TextEmbedder
from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.errors import EmbedderParameterError, MissingExtraError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.forward import embed_texts
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.map.clusters import Cluster
from imgrec.search.map.drawing import draw
from imgrec.search.map.making import Map
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

# As CLIP's authors ask for a class (https://arxiv.org/abs/2103.00020, 3.1.4).
_PROMPT = "a photo of {}"
_WORDS = 3
# A word has to score so much more for a cluster than it does for all of them in the mean, or it says nothing.
_MARGIN = 0.02
# Of a cluster, so many photos stand for all.
_SAMPLE = 200
# Clusters beyond these are named by their number alone.
_CLUSTERS = 1_000

logger = logging.getLogger(__name__)


def word_list() -> list[str]:
    """The words that clusters may be called by."""
    lines = (files("imgrec.search.map.data") / "words.txt").read_text("utf-8").splitlines()
    return [word.strip() for line in lines if not line.startswith("#") for word in line.split(",")]


def find_words(centroids: Vectors, words: Vectors, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return up to three words for each cluster, by `centroids` (clusters, dim) and `words` (words, dim), unit rows.

    A word's score is its cosine to the centroid, less the mean of its cosines to all of them: what all photos of a
    library have in common tells none apart.
    """
    scores = centroids @ words.T
    scores -= scores.mean(axis=0)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_WORDS]
    return [
        tuple(names[word] for word in row.tolist() if own[word] >= _MARGIN)
        for own, row in zip(scores, best, strict=True)
    ]


def with_words(library: Library, registry: Registry, made: Map, machine: Machine) -> Map:
    """Return the map with words for its clusters, where the library has a modality that reads text, and two clusters.

    Where that one's model cannot be loaded, there are none, with a warning.
    """
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    reading = next((embedder for embedder in embedders.values() if isinstance(embedder, TextEmbedder)), None)
    if reading is None:
        return made
    found = [(cluster, _centroid(registry, made, cluster, reading)) for cluster in made.clusters[:_CLUSTERS]]
    centroids = {cluster.number: centroid for cluster, centroid in found if centroid is not None}
    if len(centroids) < 2:
        return made
    names = word_list()
    try:
        words = embed_texts(reading, [_PROMPT.format(name) for name in names], machine)
    except (ModelFileError, MissingExtraError, EmbedderParameterError) as error:
        logger.warning("clusters have no words: %s", error)
        return made
    told = dict(zip(centroids, find_words(np.stack(list(centroids.values())), words, names), strict=True))
    return replace(made, clusters=tuple(replace(one, words=told.get(one.number, ())) for one in made.clusters))


def keep_words(made: Map, old: Map) -> Map:
    """Return the map whose clusters have the words that those of the same numbers had."""
    told = {cluster.number: cluster.words for cluster in old.clusters}
    return replace(made, clusters=tuple(replace(one, words=told.get(one.number, ())) for one in made.clusters))


def _centroid(registry: Registry, made: Map, cluster: Cluster, embedder: Embedder) -> Vectors | None:
    """The unit mean of the vectors of some of a cluster's photos; None if none has one."""
    ids = draw(made.ids[made.cluster == cluster.number], _SAMPLE, 0)
    stored = registry.vectors(embedder.spec.name, embedder.spec.fingerprint, ids.tolist())
    if not stored:
        return None
    mean = np.mean(list(stored.values()), axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
