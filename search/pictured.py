"""Thumbnails of photos by id: the small ones that all have, and larger ones as they are asked for."""

from collections.abc import Sequence

from imgrec.search.errors import QueryError
from imgrec.search.queries import Limits
from imgrec.storage.errors import ImageChangedError, ImageError
from imgrec.storage.library import Library
from imgrec.storage.photos.decoding_alone import decode_safely
from imgrec.storage.photos.pending import Pending, read_unchanged
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.registry.pending import live_contents
from imgrec.storage.registry.registry_pool import RegistryPool
from imgrec.storage.thumbnails.cache import ThumbnailCache, allowed_side
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.storage.thumbnails.webp import SIDE, thumbnail_of


class Thumbnails:
    """The thumbnails of a library, for any number of threads: ids in, WebP out; no path comes from whoever asks."""

    def __init__(self, library: Library, registries: RegistryPool, limits: Limits, cache_mb: float) -> None:
        self._library = library
        self._registries = registries
        self._limits = limits
        self._store = ThumbnailStore(library.thumbnails_dir)
        self._cache = ThumbnailCache(library.thumbnails_dir, cache_mb * 1e6)

    def get_many(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Return the thumbnails of 64 pixels of these photos, as far as they have some: WebP by id."""
        with self._registries.reader() as registry:
            hashes = registry.content_hashes(ids)
        found = self._store.get_many([content for content in hashes.values() if content is not None])
        return {image_id: found[content] for image_id, content in hashes.items() if content in found}

    def get(self, image_id: int, side: int) -> bytes:
        """Return a thumbnail of a photo, WebP: of `side` pixels on its longer side, or the next larger size there is.

        Sizes are 64, 128, 256, 512 and 1,024 pixels. Larger ones than 64 are kept for the next time.

        Raises:
            QueryError: there is no such photo, or it cannot be read any more.
        """
        with self._registries.reader() as registry:
            found = [pending for some in live_contents(registry, [image_id]) for pending in some]
        if not found:
            raise QueryError(f"id:{image_id}: the library has no such photo, or cannot use it")
        pending, side = found[0], allowed_side(side)
        if side == SIDE and (small := self._store.get_many([pending.content_hash])):
            return small[pending.content_hash]
        return self._cache.get_or_make(pending.content_hash, side, lambda: self._make(image_id, pending, side))

    def _make(self, image_id: int, pending: Pending, side: int) -> bytes:
        library, limits = self._library, self._limits
        try:
            data = read_unchanged(library.roots, pending, library.follow_links)
            profiles = profiles_of(library.vector_settings)
            pixels = decode_safely(data, side, limits.max_megapixels, limits.decode_timeout_s, profiles)
            return thumbnail_of(pixels, side)
        except ImageChangedError as error:
            raise QueryError(f"id:{image_id}: the file is gone, or another one: `imgrec ingest`") from error
        except ImageError as error:
            raise QueryError(f"id:{image_id}: {error}") from error
