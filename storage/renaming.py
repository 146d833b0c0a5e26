"""Roots get other names: library.json notes that first, then the registry's paths change, in one transaction."""

from dataclasses import replace
from datetime import UTC, datetime

from imgrec.storage.library import Library, open_library
from imgrec.storage.photos.roots import end_of, prefix_of
from imgrec.storage.registry.registry import Registry

_INDEXES_OF_PATHS = (
    "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'images' AND sql LIKE '%path%'"
)
# `||` takes bytes as they are, and makes text of them.
_NEW_PATHS = "path = :new || substr(path, :rest), raw_path = CAST(:new || substr(raw_path, :raw_rest) AS BLOB)"


def settle_names(library: Library, registry: Registry) -> Library:
    """Let the registry call roots what library.json calls them. Killed in between, it is done by the next call."""
    for old, new in library.renamed_roots.items():
        rename_root(registry, old, new)
    if library.renamed_roots:
        replace(open_library(library.root), renamed_roots={}).save()
    return replace(library, renamed_roots={})


def rename_root(registry: Registry, old: str, new: str) -> None:
    """Let the paths of the root `old` begin with `new`; `old` is empty where it had no name. Twice does no harm.

    Ids, vectors and indexes are of images, and stay. What a scan that was killed has read stays read.
    """
    run = registry.connection.execute
    of_old, edges = _of(old), {"first": prefix_of(old), "end": end_of(old)}
    with registry.transaction(durable=True):
        if _is_renamed(registry, old, new):
            return  # and whoever did it was killed before noting it
        if old:  # what is there under the new name belongs to a root that was removed
            run(
                "UPDATE images SET missing_since = ? WHERE missing_since IS NULL AND path >= ? AND path < ?",
                (datetime.now(UTC).isoformat(), prefix_of(new), end_of(new)),
            )
        # Paths are unique, but not while `a.jpg` is `new/a.jpg` already and another one of that name is so still.
        indexes = run(_INDEXES_OF_PATHS).fetchall()
        for name, _ in indexes:
            run(f"DROP INDEX {name}")
        _rename(registry, "images", old, new)
        for _, sql in indexes:
            run(sql)
        run("DROP TABLE IF EXISTS temp.renamed")
        run("CREATE TEMP TABLE renamed AS SELECT * FROM probes LIMIT 0")
        run(f"INSERT INTO temp.renamed SELECT * FROM probes WHERE {of_old}", edges)
        run(f"DELETE FROM probes WHERE {of_old}", edges)
        _rename(registry, "temp.renamed", old, new)
        run("UPDATE temp.renamed SET key = ifnull(raw_path, path)")
        run("INSERT OR REPLACE INTO probes SELECT * FROM temp.renamed")
        run("DROP TABLE temp.renamed")


def preview_names(library: Library, registry: Registry) -> None:
    """Let this connection see the registry as `settle_names` would leave it, in a copy that is gone with it."""
    run = registry.connection.execute
    if not library.renamed_roots:
        return
    for table in ("images", "probes"):
        run(f"CREATE TEMP TABLE {table} AS SELECT * FROM main.{table}")  # which stands before the other
        for old, new in library.renamed_roots.items():
            _rename(registry, f"temp.{table}", old, new)
    run("UPDATE temp.probes SET key = ifnull(raw_path, path)")
    run("CREATE INDEX temp.probes_key ON probes (key)")
    for _, sql in run(_INDEXES_OF_PATHS.replace("sqlite_master", "main.sqlite_master")).fetchall():
        run(sql.replace("INDEX ", "INDEX temp.", 1))


def _rename(registry: Registry, table: str, old: str, new: str) -> None:
    before = prefix_of(old)
    registry.connection.execute(
        f"UPDATE {table} SET {_NEW_PATHS} WHERE {_of(old)}",
        {
            "new": prefix_of(new), "rest": len(before) + 1, "raw_rest": len(before.encode()) + 1,
            "first": before, "end": end_of(old),
        },
    )  # fmt: skip


def _of(name: str) -> str:
    return "path >= :first AND path < :end" if name else "true"


def _is_renamed(registry: Registry, old: str, new: str) -> bool:
    """Whether nothing has the old name; of a root that had none, whether everything has the new one."""
    where, name = ("path >= ? AND path < ?", old) if old else ("path < ? OR path >= ?", new)
    edges = prefix_of(name), end_of(name)
    return not any(
        registry.connection.execute(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", edges).fetchone()
        for table in ("images", "probes")
    )
