"""SQL for users: DuckDB views over the registry and the shards, read-only and offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset

from imgrec.storage.errors import ImgrecError
from imgrec.storage.library import Library
from imgrec.storage.names import sql_name
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards
from imgrec.storage.tables import image_table

# Everything reaches DuckDB as Arrow: it needs no file and no extension, so it gets none.
_SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "temp_directory": "",
    "lock_configuration": True,
}


class SqlError(ImgrecError, ValueError):
    """DuckDB did not take a statement."""


def run_sql(
    library: Library, statement: str, fingerprints: Mapping[str, str]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Run a statement over the view `images` and one view per modality; return column names and rows.

    `images` has id, path, size, modified, width, height, format, status (`missing` where a photo is gone), reason,
    content_hash (hex), taken (by the camera's clock), taken_offset (from UTC) and camera. A modality's view has
    image_id, path and vector (FLOAT[]), read from the shards only if asked for. `fingerprints` says by modality which
    vectors are meant. DuckDB's own SQLite reader would have to be downloaded, so rows travel as Arrow tables.

    Raises:
        SqlError: the statement is wrong, or reaches outside of the library.
    """
    while True:
        shards = {
            sql_name(modality): list(list_shards(library.shards_dir, fingerprint))
            for modality, fingerprint in fingerprints.items()
        }
        try:
            return _run(library, statement, shards)
        except (duckdb.Error, pa.ArrowException, FileNotFoundError) as error:
            if all(path.exists() for paths in shards.values() for path in paths):
                raise SqlError(f"SQL: {' '.join(str(error).split())}") from error
            # Else an ingest has merged shards meanwhile: the same is in others now.


def _run(
    library: Library, statement: str, shards: Mapping[str, Sequence[Path]]
) -> tuple[list[str], list[tuple[object, ...]]]:
    with (
        Registry.open_for_reading(library.registry_path) as registry,
        duckdb.connect(":memory:", config=_SEALED) as connection,
    ):
        connection.register("images_table", image_table(registry))
        connection.execute("CREATE VIEW images AS SELECT * FROM images_table")
        for modality, paths in shards.items():
            _create_view(connection, modality, paths)
        result = connection.execute(statement)
        if result is None:
            raise SqlError("SQL: there is no statement")
        names = [column[0] for column in result.description or ()]
        return names, result.fetchall()


def _create_view(connection: duckdb.DuckDBPyConnection, modality: str, paths: Sequence[Path]) -> None:
    if paths:
        files = [str(path) for path in paths]
        connection.register(f"{modality}_shards", pyarrow.dataset.dataset(files, format="parquet"))
        vectors = f"""SELECT i.id AS image_id, any_value(i.path) AS path, any_value(s.vector)::FLOAT[] AS vector
                      FROM {modality}_shards AS s JOIN images AS i ON lower(hex(s.content_hash)) = i.content_hash
                      GROUP BY i.id"""
    else:
        vectors = "SELECT 0::BIGINT AS image_id, '' AS path, []::FLOAT[] AS vector WHERE false"
    connection.execute(f"CREATE VIEW {modality} AS {vectors}")
