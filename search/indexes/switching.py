"""A change of mind: published indexes go on serving the vectors they have until the new ones are complete.

`imgrec reembed`, a trained codebook or a newer version of an embedder give all images new vectors. Until then an index
that were built of them would lose photos from its answers, so every index stays with what its manifest names. Then all
of them are built, and only when the last one is on disk do their pointers move, one right after the other. An answer
comes from one index, and is embedded, searched and scored by its manifest alone, so none ever mixes the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.layout import IndexFolder, Manifest, published_indexes
from imgrec.search.indexes.segment import open_segment
from imgrec.search.indexes.vectors import Ids
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry


def count_waiting(registry: Registry, library: Library, fingerprints: Mapping[str, str]) -> int:
    """Count the photos that a switch to these fingerprints (by modality) would take out of some index's answers.

    These are the photos that an index of other settings or fingerprints serves, and that have neither their new
    vectors nor a reason why not. 0 where there is nothing to switch.
    """
    waiting: Ids | None = None
    count = 0
    for name in published_indexes(library.indexes_dir):
        folder = IndexFolder(library.indexes_dir, name)
        try:
            manifest = folder.read_manifest()
            if not _switches(registry, manifest, library.vector_settings, fingerprints):
                continue
            served = [
                open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors).ids
                for entry in manifest.segments
            ]
        except IndexDamagedError:
            continue  # it answers nobody, so nothing is lost
        if waiting is None:
            found = [registry.waiting_ids(modality, name) for modality, name in fingerprints.items()]
            waiting = np.unique(np.concatenate(found))
        count = max(count, len(np.intersect1d(waiting, np.concatenate([np.empty(0, np.int64), *served]))))
    return count


def _switches(
    registry: Registry, manifest: Manifest, vector_settings: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> bool:
    """Whether an index serves other vectors than these, and the registry still has those."""
    same = all(fingerprints.get(member.modality) == member.fingerprint for member in manifest.members)
    if same and manifest.vector_settings.items() <= vector_settings.items():  # more of them: of a modality added since
        return False
    known = registry.fingerprints()
    return all(member.fingerprint in known for member in manifest.members)


def serving_fingerprints(library: Library, modalities: Sequence[str]) -> dict[str, str]:
    """The fingerprint that each modality's own index serves; modalities without one are left out."""
    serving = {}
    for modality in set(modalities) & set(published_indexes(library.indexes_dir)):
        manifest = IndexFolder(library.indexes_dir, modality).read_manifest()
        serving[modality] = manifest.members[0].fingerprint
    return serving
