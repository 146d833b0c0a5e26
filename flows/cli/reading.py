"""What a library holds: `imgrec status`, `failures`, `sql`."""

import math

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import file_facts, print_json
from imgrec.flows.cli.options import json_option, library_option
from imgrec.storage.library import Library, open_library


@click.command()
@library_option
@json_option
def status(library: str | None, as_json: bool) -> None:
    """Show what a library holds: images, vectors, indexes."""
    from imgrec.flows.cli.status import read_status

    facts = read_status(Settings.load(library=library).library)
    if as_json:
        print_json({key: facts[key] for key in ("root", "roots", "images", "vectors", "indexes")})
    else:
        from imgrec.flows.cli.tables import print_status

        print_status(facts)


@click.command()
@library_option
@json_option
def failures(library: str | None, as_json: bool) -> None:
    """List the images that cannot be used, why, and what to do about it."""
    from imgrec.storage.registry.failures import remedy_for
    from imgrec.storage.registry.registry import Registry

    home = open_library(Settings.load(library=library).library)
    fingerprints = _fingerprints(home).values()
    with Registry.open_for_reading(home.registry_path) as registry:
        if as_json:
            for row in registry.failures(fingerprints):
                facts = {"id": row.id, "path": row.path, "status": row.status, "reason": row.reason}
                file, root = home.roots.place(row.file_path) or (None, None)
                where = {"root": root, **(file_facts(file) if file else {"file": None})}
                print_json({**facts, "remedy": remedy_for(row.status, row.reason), **where})
        else:
            from imgrec.flows.cli.tables import print_failures

            print_failures(registry.failures(fingerprints))


@click.command()
@click.argument("statement")
@library_option
@json_option
def sql(statement: str, library: str | None, as_json: bool) -> None:
    """Ask the library in SQL (DuckDB). Views: `images`, and one per modality (image_id, path, vector).

    BLOBs are printed as hex digits. In JSON, which has no such numbers, NaN and infinity are null.

    \b
    imgrec sql "select format, count(*) from images group by format"
    imgrec sql "select path, vector[1:4] from color limit 3"
    """
    from imgrec.flows.cli.tables import print_rows
    from imgrec.search.indexes.switching import serving_fingerprints
    from imgrec.storage.queries import run_sql

    home = open_library(Settings.load(library=library).library)
    fingerprints = _fingerprints(home)
    fingerprints |= serving_fingerprints(home, home.modalities)
    names, rows = run_sql(home, statement, fingerprints)
    if as_json:
        for row in rows:
            print_json(_strict(dict(zip(names, row, strict=True))))
    else:
        print_rows(names, rows)


def _fingerprints(home: Library) -> dict[str, str]:
    """Those of the library's modalities, by its settings of today."""
    from imgrec.embedders.catalogue import create_embedders

    embedders = create_embedders(home.modalities, home.vector_settings, home.models_dir)
    return {name: embedder.spec.fingerprint for name, embedder in embedders.items()}


def _strict(value: object) -> object:
    """Make of DuckDB's values what JSON has: null of numbers that are none, hex digits of bytes, text of keys."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key.hex() if isinstance(key, bytes) else str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
