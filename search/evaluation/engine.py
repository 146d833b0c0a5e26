"""Everything that an evaluation asks of the index engine: which indexes there are, their answers, stored vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.errors import EvaluationError
from imgrec.search.fusion import combine
from imgrec.search.indexes.layout import Manifest, Member, find_index, list_indexes
from imgrec.search.indexes.opening import Reader, open_reader
from imgrec.search.indexes.source import from_blobs, from_shards
from imgrec.search.indexes.vectors import Ids, Mask, Vectors
from imgrec.search.names import in_order, named_modalities
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

# By modality, one row an image (or query); rows of zeros where it has no vector.
Rows = Mapping[str, Vectors]


@dataclass(frozen=True)
class Subject:
    """An index that is judged, open. `ef_search` is what it is searched with."""

    name: str
    reader: Reader
    ef_search: int

    @property
    def manifest(self) -> Manifest:
        return self.reader.manifest

    @property
    def members(self) -> tuple[Member, ...]:
        return self.manifest.members

    @cached_property
    def weights(self) -> dict[str, float]:
        """Share of the score by modality; they sum to 1."""
        return {member.modality: member.weight for member in self.members}

    def known(self, rows: Rows) -> Mask:
        """Which of the images have a vector in one of the members or more."""
        return np.asarray(np.logical_or.reduce([rows[member.modality].any(axis=1) for member in self.members]))

    def query_rows(self, rows: Rows) -> Vectors:
        """Put queries together as searches do: what a query lacks is weighed out. All of them are `known`."""
        has = {member.modality: rows[member.modality].any(axis=1) for member in self.members}
        share = np.sum([member.weight * has[member.modality] for member in self.members], axis=0)
        return np.ascontiguousarray(combine(self.members, rows) / share[:, None].astype(np.float32))

    def answers(self, queries: Vectors, own: Ids, k: int, ef_search: int) -> Ids:
        """Search for the k photos most like each query but for the photo itself, `own`: ids (N, k), -1 for none."""
        _, ids = self.reader.search(queries, k + 1, ef_search)
        others = ids != own[:, None]
        others[others.all(axis=1), -1] = False  # its own photo was not found: one too many
        kept = np.argsort(~others, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(ids, kept, axis=1)


def open_subjects(library: Library, names: Sequence[str] = (), ef_search: int | None = None) -> list[Subject]:
    """Open indexes, by default all of a library, those of one modality first.

    Raises:
        IndexNotFoundError: there is no index of such a name.
        IndexDamagedError: one has no version that is whole.
        EvaluationError: there is no index, or two of them have different vectors of one modality.
    """
    there = list_indexes(library.indexes_dir)
    combined = [name for name in there if len(named_modalities(name)) > 1]
    wanted = list(names) or [*in_order(set(there) - set(combined)), *combined]
    if not wanted:
        raise EvaluationError(f"no index in {library.root}: `imgrec ingest` builds it")
    subjects = {}
    for name in wanted:
        folder = find_index(library.indexes_dir, name)
        reader = open_reader(folder)
        subjects[folder.name] = Subject(folder.name, reader, ef_search or reader.manifest.ef_search)
    _check_same_vectors(library, list(subjects.values()))
    return list(subjects.values())


class StoredVectors:
    """A library's stored vectors, of the modalities that some indexes have."""

    def __init__(self, registry: Registry, library: Library, subjects: Sequence[Subject]) -> None:
        self.registry = registry
        self._shards_dir = library.shards_dir
        members = {member.modality: member for subject in subjects for member in subject.members}
        self.members = {name: Member(name, members[name].fingerprint, members[name].dim) for name in in_order(members)}
        self.vector_settings = {
            name: value for subject in subjects for name, value in subject.manifest.vector_settings.items()
        }

    @property
    def modalities(self) -> list[str]:
        return list(self.members)

    @property
    def bytes_per_image(self) -> int:
        return 4 * sum(member.dim for member in self.members.values())

    def live_ids(self, modalities: Sequence[str]) -> Ids:
        """The ids, ascending, of the live images that an index of these modalities is to answer with."""
        return self.registry.complete_ids({name: self.members[name].fingerprint for name in modalities})

    def of(self, ids: Ids) -> dict[str, Vectors]:
        """Look up the vectors of some images: (N, dim) each, in the order of `ids`."""
        order = np.unique(ids)
        found = {name: np.zeros((len(order), member.dim), np.float32) for name, member in self.members.items()}
        for name, member in self.members.items():
            for some, vectors in from_blobs(self.registry, [member], order, max(1, len(order))):
                found[name][np.searchsorted(order, some)] = vectors
        places = np.searchsorted(order, ids)
        return {name: rows[places] for name, rows in found.items()}

    def stream(self, ids: Ids, batch_size: int) -> Iterator[tuple[Ids, dict[str, Vectors]]]:
        """Yield (ids, their vectors) of all of `ids` (ascending) in batches: of one modality from the shards.

        Shards of several modalities do not hold the same images in the same order, so those come from the registry.
        """
        if len(self.members) == 1:
            ((name, member),) = self.members.items()
            for some, vectors in from_shards(self.registry, self._shards_dir, member, ids, batch_size):
                yield some, {name: vectors}
        else:
            for start in range(0, len(ids), batch_size):
                some = ids[start : start + batch_size]
                yield some, self.of(some)


def place_in(ids: Ids, sorted_ids: Ids) -> tuple[NDArray[np.int64], Mask]:
    """Where each of `ids` is in `sorted_ids`, and whether it is there at all."""
    if not len(sorted_ids):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    places = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return places, sorted_ids[places] == ids


def _check_same_vectors(library: Library, subjects: Sequence[Subject]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for subject in subjects:
        for member in subject.members:
            fingerprint, name = seen.setdefault(member.modality, (member.fingerprint, subject.name))
            if fingerprint != member.fingerprint:
                raise EvaluationError(
                    f"indexes {name} and {subject.name} have different vectors of {member.modality}: finish the change "
                    f"of settings with `imgrec ingest`, or name one of them with --index ({library.root})"
                )
