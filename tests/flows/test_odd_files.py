"""A folder of odd files goes through the commands: each file has the fate that is written down for it."""

import os
from collections import Counter
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

from imgrec.storage.photos.paths import printable
from imgrec.storage.registry.registry import Registry
from tests.flows.conftest import Imgrec
from tests.flows.odd_files import FAILED, OK, UNCOUNTED, Files, odd_files, write

QUERIES: tuple[str | bytes, ...] = ("tiff/float-curve.tif", b"names/caf\xe9.png", "formats/NO SUFFIX")


def expected(files: Files) -> list[str]:
    counted = Counter(odd.fate for odd in files.values() if odd.fate not in {*FAILED, OK, UNCOUNTED})
    rows = {os.fsdecode(name): odd.fate for name, odd in files.items() if odd.fate in {*FAILED, OK}}
    return fates(rows, counted)


def found(library: Path, report: Mapping[str, Any]) -> list[str]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        query = "SELECT path, raw_path, status FROM images WHERE missing_since IS NULL"
        rows = registry.connection.execute(query).fetchall()
    counted = {f"left out: {rule}": count for rule, count in report["left_out"].items()}
    counted |= {f"other: {kind}": count for kind, count in report["other_files"].items()}
    return fates({path if raw is None else os.fsdecode(raw): status for path, raw, status in rows}, counted)


def fates(rows: Mapping[str, str], counted: Mapping[str, int]) -> list[str]:
    return sorted(f"{name!a} {fate}" for name, fate in {**rows, **counted}.items())


def test_every_odd_file_has_the_fate_that_is_written_down(imgrec: Imgrec, tmp_path: Path, library: Path) -> None:
    files, photos = odd_files(), tmp_path / "photos"
    assert len(files) >= 100
    write(photos, files)
    of = ("--library", library)

    ran = imgrec("ingest", photos, *of, "--json", "--modality", "color", "--workers", "2")
    assert (ran.code, ran.err) == (0, "")
    (report,) = ran.lines
    differences = list(unified_diff(expected(files), found(library, report), "written down", "found", n=0, lineterm=""))
    assert not differences, "\n".join(differences)

    for query in QUERIES:
        (answer,) = imgrec("search", photos / os.fsdecode(query), *of, "--json").lines
        first, second = answer["hits"][:2]
        assert first["path"] == printable(query)
        assert first["score"] > max(0.999, second["score"])

    told = {row["path"]: row for row in imgrec("failures", *of, "--json").lines}
    assert {name: row["status"] for name, row in told.items()} == {
        printable(name): odd.fate for name, odd in files.items() if odd.fate in FAILED
    }
    assert all(row["reason"].isprintable() and len(row["reason"]) > 10 for row in told.values())

    doctor = imgrec("doctor", *of)
    assert (doctor.code, doctor.out) == (0, f"{library}: nothing is wrong\n")

    (again,) = imgrec("ingest", *of, "--json").lines
    news = ("new", "copied", "moved", "changed", "returned", "missing", "excluded", "embedded", "retried")
    assert {name: again[name] for name in news} == dict.fromkeys(news, 0)
    assert found(library, again) == found(library, report)
