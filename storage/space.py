"""What images and their vectors take on disk, by the layout of the files that hold them."""

# SQLite's default, which the registry has (https://sqlite.org/fileformat.html#b_tree_pages).
PAGE_BYTES = 4_096
# Path, stat, content hash, format, and the three indexes of a row, one of which is half empty.
IMAGE_ROW_BYTES = 390
# The index of a table of vectors: image id, fingerprint, row id.
_VECTOR_KEY_BYTES = 34
# Fingerprint, id and lengths beside a vector.
_ROW_EXTRA_BYTES = 30
# A content hash, its length, and a vector's share of the file's own description.
_SHARD_EXTRA_BYTES = 40
# Names of index and segment, offset, image id.
_INDEX_ROW_BYTES = 56
# Links of a graph beyond those of its lowest layer, its layer and offset, two image ids.
_GRAPH_EXTRA_BYTES = 40


def shard_bytes_of(dim: int) -> int:
    """Bytes of a vector in its shard."""
    return 4 * dim + _SHARD_EXTRA_BYTES


def blob_bytes_of(dim: int) -> int:
    """Bytes of a vector in the registry: it shares a page with others only if they fit, and long ones have pages."""
    payload, usable = 4 * dim + _ROW_EXTRA_BYTES, PAGE_BYTES - 8
    pages = 0
    if payload > PAGE_BYTES - 35:
        least, rest = (PAGE_BYTES - 12) * 32 // 255 - 23, PAGE_BYTES - 4
        local = least + (payload - least) % rest
        local = local if local <= PAGE_BYTES - 35 else least
        pages, payload = -(-(payload - local) // rest), local + 4
    return PAGE_BYTES * pages + PAGE_BYTES // max(1, usable // payload) + _VECTOR_KEY_BYTES


def graph_bytes_of(dim: int, hnsw_m: int) -> int:
    """Bytes of a vector in an index, and of its row in the registry."""
    return 4 * dim + 2 * 4 * hnsw_m + _GRAPH_EXTRA_BYTES + _INDEX_ROW_BYTES
