"""An open version of a combination: a graph over reduced rows, and the rows of its modalities' own indexes.

Candidates come from the combination's graph and from the index of each modality, and are ranked by the rows there, so
no vector is kept twice. A query is a row of the combination: the concatenation of its vectors, each scaled by the root
of its modality's weight. It may be scaled otherwise: then other weights than the combination's own count
(`fusion.weigh`), and the candidates of the modalities make up for the graph, which was built for its own.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.allowed import Allowed
from imgrec.search.indexes.hits import NO_ID
from imgrec.search.indexes.layout import IndexFolder, Manifest
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.vectors import Ids, Vectors


class CombinedReader:
    """Searches one version of a combination, with the published versions of its modalities' indexes.

    Raises:
        IndexDamagedError: one of those serves other vectors.
    """

    def __init__(self, folder: IndexFolder, version: str | Manifest | None = None) -> None:
        self._graph = IndexReader(folder, version)
        self.manifest = self._graph.manifest
        self._members = open_members(folder, self.manifest)

    def allow(self, ids: Ids) -> Allowed:
        """Prepare searches among some images only; `ids`, ascending, may name others too."""
        members = {modality: reader.allow(ids) for modality, reader in self._members.items()}
        return replace(self._graph.allow(ids), members=members)

    def search(
        self, queries: Vectors, k: int, ef_search: int | None = None, allowed: Allowed | None = None
    ) -> tuple[Vectors, Ids]:
        """Return near scores and image ids, both (queries, k), best first; short rows end in id -1 and score -inf.

        `ef_search` is how many candidates the graph and each modality give.
        """
        ef_search = max(ef_search or self.manifest.ef_search, k)
        parts = self._parts(queries)
        _, candidates = self._graph.search(queries, ef_search, ef_search, allowed)
        found = [candidates]
        for modality, part in parts.items():
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            if modality in self._members and lengths.any():
                unit = np.divide(part, lengths, out=np.zeros_like(part), where=lengths > 0)
                among = None if allowed is None else allowed.members[modality]
                found.append(self._members[modality].search(unit, ef_search, ef_search, among)[1])
        pooled = np.concatenate(found, axis=1)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), NO_ID, np.int64)
        for query, some in enumerate(pooled):
            pool = np.unique(some)
            pool = pool[pool != NO_ID]
            products = self._score({modality: part[query] for modality, part in parts.items()}, pool)
            best = np.argsort(-products, kind="stable")[:k]
            scores[query, : len(best)], ids[query, : len(best)] = products[best], pool[best]
        return scores, ids

    def _parts(self, queries: Vectors) -> dict[str, Vectors]:
        """The columns of each modality, scaled so that their products with its vectors add up to the score."""
        ends = np.cumsum([member.dim for member in self.manifest.members])
        return {
            member.modality: queries[:, end - member.dim : end] * np.float32(np.sqrt(member.weight))
            for member, end in zip(self.manifest.members, ends, strict=True)
        }

    def _score(self, parts: Mapping[str, Vectors], ids: Ids) -> Vectors:
        """The sum of products, (N,); a vector that an image has not adds nothing."""
        total = np.zeros(len(ids), np.float32)
        for modality, part in parts.items():
            if modality in self._members and part.any():
                total += np.nan_to_num(self._members[modality].products(part, ids))
        return total


def open_members(folder: IndexFolder, manifest: Manifest) -> dict[str, IndexReader]:
    """Open the indexes of a combination's modalities, those that there are.

    Raises:
        IndexDamagedError: one serves other vectors.
    """
    readers = {}
    for member in manifest.members:
        own = IndexFolder(folder.root.parent, member.modality)
        if own.versions():  # none has a modality that made no vector yet
            readers[member.modality] = _open_member(own, member.fingerprint)
    return readers


def _open_member(folder: IndexFolder, fingerprint: str) -> IndexReader:
    """Open the newest version that serves these vectors, the published one first.

    While all indexes change to other vectors, some are published before the others.
    """
    damage: IndexDamagedError | None = None
    for version in folder.versions():
        try:
            manifest = folder.read_manifest(version)
            if [member.fingerprint for member in manifest.members] == [fingerprint]:
                return IndexReader(folder, manifest)
        except IndexDamagedError as error:
            damage = damage or error
    raise damage or IndexDamagedError(
        f"index {folder.name}, which combinations with {folder.name} need, is not there or serves other vectors: "
        "the next `imgrec ingest` builds it"
    )
