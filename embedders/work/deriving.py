"""From shards to shards: the vectors of a derived modality, made of its source's, without a picture being decoded."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgrec.embedders.base import Embedder, are_vectors
from imgrec.embedders.derived import DerivedEmbedder
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.storage.mirror import mirror_shards, read_or_set_aside
from imgrec.storage.registry.pending import contents_without
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Failure, Shard, digest_of, list_shards, read_contents, shard_path, write_shard


def derive_shards(registry: Registry, shards_dir: Path, embedder: Embedder) -> int:
    """Write and mirror a shard for each of the source's that has contents without a vector of `embedder`.

    Return how many vectors came in. One shard is in memory at a time; killed in between, what is written counts. A
    content of which the source has no vector has none here, for the same reason.

    Raises:
        EmbedderParameterError: `embedder` is made of pictures.
    """
    if not isinstance(embedder, DerivedEmbedder):
        raise EmbedderParameterError(f"{embedder.spec.name} is made of pictures: `imgrec embed` makes its vectors")
    came_in = 0
    for path in _derived(registry, shards_dir, embedder):
        came_in += mirror_shards(registry, shards_dir, [path])
    return came_in


def derive_shard(embedder: DerivedEmbedder, source: Shard, wanted: Sequence[bytes]) -> Shard:
    """Make of the source's shard one that has the `wanted` of its contents.

    Raises:
        EmbedderParameterError: the shard is of another source.
    """
    if source.fingerprint != embedder.source.spec.fingerprint:
        raise EmbedderParameterError(
            f"{embedder.spec.name} is made of vectors of fingerprint {embedder.source.spec.fingerprint}, and this "
            f"shard of {source.modality} holds {source.fingerprint}"
        )
    asked = set(wanted)
    places = [place for place, content in enumerate(source.content_hashes) if content in asked]
    rows = embedder.derive(source.vectors[places]) if places else np.empty((0, embedder.spec.dim), np.float32)
    sound = are_vectors(rows)
    contents = [source.content_hashes[place] for place in places]
    failures = [failure for failure in source.failures if failure.content_hash in asked]
    failures += [
        Failure(content, *embedder.no_vector) for content, good in zip(contents, sound, strict=True) if not good
    ]
    kept = tuple(content for content, good in zip(contents, sound, strict=True) if good)
    spec = embedder.spec
    return replace(
        source, modality=spec.name, fingerprint=spec.fingerprint, content_hashes=kept, vectors=rows[sound],
        failures=tuple(failures),
    )  # fmt: skip


def _derived(registry: Registry, shards_dir: Path, embedder: DerivedEmbedder) -> Iterator[Path]:
    spec = embedder.spec
    for path in list(list_shards(shards_dir, embedder.source.spec.fingerprint)):
        held = read_contents(path)
        wanted = contents_without(registry, spec.name, spec.fingerprint, [*held.embedded, *held.failed])
        shard = read_or_set_aside(path) if wanted else None
        if shard is None:
            continue
        made = derive_shard(embedder, shard, wanted)
        if made.contents:
            target = shard_path(shards_dir, spec.name, spec.fingerprint, digest_of(spec.fingerprint, made.contents))
            write_shard(target, made)
            yield target
