"""Checks of registry.sqlite, and of what killed runs left. Each yields one kind of finding."""

from collections.abc import Iterator
from functools import partial

from imgrec.search.upkeep.findings import CheckedLibrary, Finding
from imgrec.search.upkeep.unneeded import leftover_files
from imgrec.storage.library import open_library
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.names import vector_table
from imgrec.storage.registry.comparison import count_strays
from imgrec.storage.registry.migrations import expected_tables, schema_version, table_names
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_sizes
from imgrec.storage.renaming import settle_names

LOST_REGISTRY = (
    "restore registry.sqlite from a backup (`imgrec ingest` brings that up to date from the shards), or move it away: "
    "`imgrec ingest` then makes a new one without computing anything again, but photos get new ids"
)


def check_integrity(checked: CheckedLibrary) -> Iterator[Finding]:
    """SQLite's own check. Indexes can be made anew from their tables; damaged tables cannot."""
    run = checked.registry.connection.execute
    rows = [str(row[0]) for row in run("PRAGMA integrity_check(20)")]
    if rows != ["ok"]:
        only_indexes = all("index" in row for row in rows)
        yield Finding(
            "registry.integrity",
            f"registry.sqlite is damaged: {'; '.join(rows[:3])}",
            "makes SQLite's indexes anew" if only_indexes else LOST_REGISTRY,
            partial(run, "REINDEX") if only_indexes else None,
        )


def check_tables(checked: CheckedLibrary) -> Iterator[Finding]:
    """All tables are there, one of vectors for every modality too."""
    registry = checked.registry
    there = set(table_names(registry.connection))
    if lost := expected_tables(schema_version(registry.connection)) - there:
        yield Finding("registry.tables", f"registry.sqlite has no table {', '.join(sorted(lost))}", LOST_REGISTRY)
        return
    for modality in registry.modalities():
        if vector_table(modality) not in there:
            yield Finding(
                "registry.tables",
                f"registry.sqlite has no table {vector_table(modality)}",
                "makes the table, and fills it from the shards",
                partial(_restore_table, checked, modality),
            )


def check_references(checked: CheckedLibrary) -> Iterator[Finding]:
    """Vectors and index rows are of images and fingerprints that there are."""
    registry = checked.registry
    tables = [row[0] for row in registry.connection.execute("PRAGMA foreign_key_check")]
    for table in sorted(set(tables)):
        yield Finding(
            "registry.references",
            f"{tables.count(table):,} rows of {table} belong to nothing that the registry knows",
            "removes those rows",
            partial(_remove_strays, registry, table),
        )


def check_roots(checked: CheckedLibrary) -> Iterator[Finding]:
    """Every photo that is there is in a root of the library, by the name that it has in library.json."""
    library = open_library(checked.library.root)
    for old, new in library.renamed_roots.items():
        what = f"the registry still calls {library.roots.describe(new)} {old or 'nothing'}, its former name"
        fix = partial(settle_names, library, checked.registry)
        yield Finding("registry.roots", what, "gives it its name there, as the next `imgrec ingest` would", fix)
    if not library.renamed_roots and (strays := count_strays(checked.registry.connection, library.roots)):
        yield Finding(
            "registry.roots",
            f"{strays:,} photos are in none of the library's folders of photos ({library.roots})",
            "`imgrec ingest` finds them there or marks them missing",
        )


def check_leftovers(checked: CheckedLibrary) -> Iterator[Finding]:
    """Nothing is left of runs that were killed."""
    for item in leftover_files(checked.library):
        remedy = f"removes it ({item.bytes:,} bytes), as the next `imgrec ingest` would"
        yield Finding("leftovers", f"{item.kind} of a killed run: {item.what}", remedy, item.remove)


def _restore_table(checked: CheckedLibrary, modality: str) -> None:
    registry, shards_dir = checked.registry, checked.library.shards_dir
    registry.create_vector_table(modality)
    fingerprints = [name for name, known in registry.fingerprints().items() if known == modality]
    for fingerprint in fingerprints:
        mirror_shards(registry, shards_dir, [shards_dir / name for name, _ in shard_sizes(registry, fingerprint)])


def _remove_strays(registry: Registry, table: str) -> None:
    run = registry.connection.execute
    with registry.transaction():
        run(f"DELETE FROM {table} WHERE image_id NOT IN (SELECT id FROM images)")
        if table != "index_rows":
            run(f"DELETE FROM {table} WHERE fingerprint NOT IN (SELECT fingerprint FROM fingerprints)")
