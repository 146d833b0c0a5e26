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
    before = prefix_of(old)
    of_old = "path >= :first AND path < :end" if old else "true"
    values = {
        "new": prefix_of(new), "rest": len(before) + 1, "raw_rest": len(before.encode()) + 1,
        "first": before, "end": end_of(old),
    }  # fmt: skip
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
        run(f"UPDATE images SET {_NEW_PATHS} WHERE {of_old}", values)
        for _, sql in indexes:
            run(sql)
        run("DROP TABLE IF EXISTS temp.renamed")
        run("CREATE TEMP TABLE renamed AS SELECT * FROM probes LIMIT 0")
        run(f"INSERT INTO temp.renamed SELECT * FROM probes WHERE {of_old}", values)
        run(f"DELETE FROM probes WHERE {of_old}", values)
        run(f"UPDATE temp.renamed SET {_NEW_PATHS}", values)
        run("UPDATE temp.renamed SET key = ifnull(raw_path, path)")
        run("INSERT OR REPLACE INTO probes SELECT * FROM temp.renamed")
        run("DROP TABLE temp.renamed")


def _is_renamed(registry: Registry, old: str, new: str) -> bool:
    """Whether nothing has the old name; of a root that had none, whether everything has the new one."""
    where, name = ("path >= ? AND path < ?", old) if old else ("path < ? OR path >= ?", new)
    edges = prefix_of(name), end_of(name)
    return not any(
        registry.connection.execute(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", edges).fetchone()
        for table in ("images", "probes")
    )
