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
# Of a row in a segment: links beyond those of the lowest layer, layer and offset, two image ids, key, place, order.
_SEGMENT_EXTRA_BYTES = 56
# What graphs shorten vectors to (search/indexes/kinds/graph.py); other kinds keep about as much of them.
_REDUCED_DIM = 256


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


def index_bytes_of(images: int, dim: int, hnsw_m: int, has_rows: bool) -> int:
    """Bytes of an index and of its rows in the registry; a combination has no rows of bytes of its own.

    That is of a graph, and of inverted lists nearly as much; exact search, of a few thousand images, takes less.
    """
    row = (dim if has_rows else 0) + _REDUCED_DIM + 2 * 4 * hnsw_m + _SEGMENT_EXTRA_BYTES + _INDEX_ROW_BYTES
    return images * row + 4 * _REDUCED_DIM * dim
