"""The SQLite registry: which images there are, and what is known of them."""

from imgrec.storage.registry.images import Images
from imgrec.storage.registry.vectors import Vectors


class Registry(Images, Vectors):
    """Images, their vectors, and the shards those came from."""
