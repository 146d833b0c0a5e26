"""What an ingest leaves out, says so, and remembers; and links, which it follows when asked."""

import shutil
from pathlib import Path

from imgrec.storage.registry.registry import Registry
from tests.flows.conftest import Imgrec


def vectors(library: Path) -> int:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        return int(registry.connection.execute("SELECT count(*) FROM color_vectors").fetchone()[0])


def test_excluded_photos_leave_the_index_and_keep_their_vectors(imgrec: Imgrec, photos: Path, library: Path) -> None:
    names = sorted(path.name for path in photos.iterdir() if path.suffix == ".png")
    (photos / "raw").mkdir()
    for number in range(2):
        shutil.move(photos / names[number], photos / "raw" / names[number])
    shutil.copytree(photos / "raw", photos / "@eaDir")
    (first,) = imgrec("ingest", photos, "--library", library, "--modality", "color", "--json").lines
    assert (first["left_out"], first["excluded"], first["indexes"]["color"]["vectors"]) == ({"@eaDir/": 1}, 0, 6)

    (foreseen,) = imgrec("ingest", "--library", library, "--exclude", "raw/", "--dry-run", "--json").lines
    assert (foreseen["gone"], foreseen["excluded"]) == (0, 2)
    assert foreseen["left_out"] == {"@eaDir/": 1, "raw/": 1}
    (then,) = imgrec("ingest", "--library", library, "--exclude", "raw/", "--max-missing-share", "0", "--json").lines
    assert (then["missing"], then["excluded"], then["left_out"]) == (0, 2, {"@eaDir/": 1, "raw/": 1})
    assert (then["indexes"]["color"]["vectors"], vectors(library)) == (4, 6)

    told = imgrec("ingest", "--library", library)  # which remembers
    assert "photos and folders left out by a rule: 1 @eaDir/, 1 raw/" in told.out
    (back,) = imgrec("ingest", "--library", library, "--exclude", "", "--json").lines
    assert (back["returned"], back["embedded"], back["indexes"]["color"]["vectors"]) == (2, 0, 6)
    wrong = imgrec("ingest", "--library", library, "--exclude", "!")
    assert (wrong.code, "exclude = " in wrong.err, "is no pattern of gitignore" in wrong.err) == (2, True, True)


def test_a_folder_of_links_says_how_to_take_them(imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in photos.iterdir():
        (links / path.name).symlink_to(path)
    left = imgrec("ingest", links, "--library", library, "--modality", "color")
    count = len(list(links.iterdir()))
    assert f"no photos in {links}; {count} symbolic links were left: --follow-links" in left.err
    (taken,) = imgrec("ingest", "--library", library, "--follow-links", "--json").lines
    assert taken["indexes"]["color"]["vectors"] == 6
    (again,) = imgrec("ingest", "--library", library, "--json").lines  # which remembers
    assert (again["unchanged"], again["missing"]) == (taken["found"], 0)
    (answer,) = imgrec("search", "id:1", "--library", library, "--json").lines
    assert answer["hits"]
