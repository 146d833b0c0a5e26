"""What the registry holds, as Arrow tables."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE

_ROWS = 50_000


def image_table(registry: Registry) -> pa.Table:
    """The photos by id; `status` is `missing` where one is gone, `content_hash` hex."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("path", pa.string()),
            ("size", pa.int64()),
            ("modified", pa.timestamp("ns", "UTC")),
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("format", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("content_hash", pa.string()),
        ]
    )
    cursor = registry.connection.execute(
        """SELECT id, path, size, mtime_ns, width, height, format,
                  CASE WHEN missing_since IS NULL THEN status ELSE 'missing' END, reason, lower(hex(content_hash))
           FROM images ORDER BY id"""
    )
    batches = []
    while rows := cursor.fetchmany(_ROWS):
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
        batches.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)


def read_vectors(registry: Registry, modality: str, fingerprint: str) -> pa.Table:
    """The vectors of the photos that are there, by id: `image_id` int64, `vector` a list of dim float32."""
    dim = registry.dim(fingerprint) or 0
    schema = pa.schema([("image_id", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])
    return pa.Table.from_batches(_vector_batches(registry, modality, fingerprint, schema), schema)


def _vector_batches(registry: Registry, modality: str, fingerprint: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    cursor = registry.connection.execute(
        f"""SELECT image_id, vector FROM {vector_table(modality)} JOIN images ON images.id = image_id
            WHERE fingerprint = ? AND {LIVE} ORDER BY image_id""",
        (fingerprint,),
    )
    while rows := cursor.fetchmany(_ROWS):
        ids, blobs = zip(*rows, strict=True)
        values = pa.array(np.frombuffer(b"".join(blobs), "<f4"))
        vectors = pa.FixedSizeListArray.from_arrays(values, schema.field("vector").type.list_size)
        yield pa.record_batch([pa.array(ids, pa.int64()), vectors], schema=schema)
