"""What a library holds."""

from pathlib import Path
from typing import Any

from imgrec.embedders.catalogue import create_embedders
from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from imgrec.storage.library import open_library
from imgrec.storage.photos.roots import Roots
from imgrec.storage.registry.registry import Registry


def read_status(root: Path) -> dict[str, Any]:
    """Count images by state, vectors by modality, and describe the published indexes."""
    library = open_library(root)
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    with Registry.open_for_reading(library.registry_path) as registry:
        images = registry.count_images()
        known = registry.modalities()
        vectors = {
            name: registry.count_vectors(name, embedder.spec.fingerprint) if name in known else 0
            for name, embedder in embedders.items()
        }
        roots = _describe_roots(library.roots, registry)
    indexes = {name: _describe(IndexFolder(library.indexes_dir, name)) for name in list_indexes(library.indexes_dir)}
    return {
        "library": str(library.root),
        "root": library.roots.only,
        "roots": roots,
        "vector_settings": dict(library.vector_settings),
        "images": images,
        "vectors": vectors,
        "indexes": indexes,
    }


def _describe_roots(roots: Roots, registry: Registry) -> dict[str, dict[str, Any]]:
    """Say of each root that has a name where it is, how many images it has by state, and what is amiss with it."""
    if not roots.are_named:
        return {}
    absent = roots.absent()
    return {
        name: {"folder": folder, "absent": absent.get(name), **registry.count_images(name)}
        for name, folder in roots.folders.items()
    }


def _describe(folder: IndexFolder) -> dict[str, Any]:
    try:
        manifest = folder.read_manifest()
        size = folder.size(manifest)
    except IndexDamagedError as error:
        return {"damaged": str(error)}
    except FileNotFoundError as error:
        if folder.current_version() != manifest.version:  # replaced twice since the manifest was read
            return _describe(folder)
        return {"damaged": str(error)}
    return {
        "version": manifest.version,
        "created": manifest.created,
        "vectors": manifest.live,
        "segments": len(manifest.segments),
        "dim": manifest.dim,
        "bytes": size,
        **manifest.parameters,
    }
