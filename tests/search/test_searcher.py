"""Queries → hits, on a library of real pictures."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.search import Answer, Searcher
from imgrec.search.errors import IndexNotFoundError, QueryError
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.preview import CAPTION, COLUMNS, MARGIN, TILE, block_height, write_preview
from imgrec.storage.errors import LibraryNotFoundError
from imgrec.storage.library import Library, create_library
from imgrec.storage.photos.decoding import decode
from imgrec.storage.registry.registry import Registry
from tests.search.conftest import SETTINGS, make_library
from tests.search.libraries import ingest
from tests.storage.icc import PROPHOTO, rgb_profile

COFFEE_COPY = os.fsdecode(b"sub/caf\xe9.png")


@pytest.fixture
def searcher(pictures: Library) -> Iterator[Searcher]:
    with Searcher(pictures.root) as searcher:
        yield searcher


@pytest.fixture
def own(tmp_path: Path) -> Library:
    """A library that a test may change."""
    return make_library(tmp_path)


def photo(library: Library, name: str) -> Path:
    return Path(library.images_root) / name


def ids_of(library: Library) -> dict[str, int]:
    with Registry.open_for_reading(library.registry_path) as registry:
        rows = registry.images(range(1, 100))
    return {row.file_path: image_id for image_id, row in rows.items()}


# Hits


def test_a_picture_of_the_library_finds_itself_first(pictures: Library, searcher: Searcher) -> None:
    for name in ("astronaut.png", "flower.jpg"):
        (answer,) = searcher.search([photo(pictures, name)], top_k=3)
        assert [hit.rank for hit in answer.hits] == [1, 2, 3]
        assert (answer.hits[0].path, answer.hits[0].file) == (name, str(photo(pictures, name)))
        assert (answer.root, answer.file) == (pictures.images_root, str(photo(pictures, name)))
        assert answer.hits[0].id == ids_of(pictures)[name]
        assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
        assert answer.hits[0].score <= 1
        assert answer.hits[0].scores == {"color": answer.hits[0].score}


def test_scores_are_exact_cosines(pictures: Library, searcher: Searcher) -> None:
    embedder = create_embedder("color", pictures.vector_settings)
    query = embedder.embed([decode(photo(pictures, "rocket.jpg").read_bytes(), 128, 256)])[0].astype(np.float64)
    (answer,) = searcher.search([photo(pictures, "rocket.jpg")], top_k=100)
    assert len(answer.hits) == 9
    for hit in answer.hits:
        data = Path(hit.file).read_bytes()
        other = embedder.embed([decode(data, 128, 256)])[0]
        assert hit.score == pytest.approx(float(query @ other), abs=1e-5)
    assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)


def test_an_id_finds_what_its_file_finds(pictures: Library, searcher: Searcher) -> None:
    by_id, by_file = searcher.search([f"id:{ids_of(pictures)['china.jpg']}", photo(pictures, "china.jpg")])
    assert by_id.query.startswith("id:")
    assert [hit.id for hit in by_id.hits] == [hit.id for hit in by_file.hits]
    assert [hit.score for hit in by_id.hits] == pytest.approx([hit.score for hit in by_file.hits])
    assert by_id.file == by_file.file == str(photo(pictures, "china.jpg"))


def test_a_copy_is_a_hit_of_its_own_and_its_file_can_be_opened(pictures: Library, searcher: Searcher) -> None:
    (answer,) = searcher.search([photo(pictures, "coffee.png")], top_k=2)
    assert {hit.file for hit in answer.hits} == {str(photo(pictures, name)) for name in ("coffee.png", COFFEE_COPY)}
    assert {hit.path for hit in answer.hits} == {"coffee.png", "sub/caf\\xe9.png"}
    assert all(Path(hit.file).is_file() for hit in answer.hits)
    (by_id,) = searcher.search([f"id:{ids_of(pictures)[COFFEE_COPY]}"])
    assert by_id.file == str(photo(pictures, COFFEE_COPY))


def test_a_new_picture_finds_what_looks_like_it(pictures: Library, searcher: Searcher, tmp_path: Path) -> None:
    picture = Image.open(photo(pictures, "chelsea.png")).resize((200, 150))
    picture.save(tmp_path / "new.webp")
    (answer,) = searcher.search([str(tmp_path / "new.webp")], top_k=1)
    assert answer.hits[0].path == "chelsea.png"
    assert 0.9 < answer.hits[0].score < 1


def test_vectors_can_be_asked_for_directly(pictures: Library, searcher: Searcher) -> None:
    embedder = create_embedder("color", pictures.vector_settings)
    names = ["rocket.jpg", "chelsea.png"]
    vectors = embedder.embed([decode(photo(pictures, name).read_bytes(), 128, 256) for name in names])
    assert [hits[0].path for hits in searcher.search_vectors(vectors, top_k=1)] == names


def test_an_answer_says_how_it_was_found(pictures: Library, searcher: Searcher) -> None:
    (answer,) = searcher.search([photo(pictures, "rocket.jpg")], top_k=1)
    assert (answer.index, answer.ef_search, searcher.index) == ("color", 64, "color")
    assert answer.version == IndexFolder(pictures.indexes_dir, "color").current_version()
    assert min(answer.decode_ms, answer.embed_ms, answer.search_ms) > 0
    with Searcher(pictures.root, "color", ef_search=99) as other:
        assert other.search([photo(pictures, "rocket.jpg")])[0].ef_search == 99


def test_no_queries_have_no_answers(searcher: Searcher) -> None:
    assert searcher.search([]) == []


# Queries that are none


@pytest.mark.parametrize("query", ["id:4711", "id:0", "id:99999999999999999999"])
def test_an_unknown_id_is_told(searcher: Searcher, query: str) -> None:
    with pytest.raises(QueryError, match=f"query {query}: the library has no image of this id"):
        searcher.search([query])


def test_an_image_without_a_vector_is_told(pictures: Library, searcher: Searcher) -> None:
    with pytest.raises(QueryError, match="has no color vector; see `imgrec failures`"):
        searcher.search([f"id:{ids_of(pictures)['broken.jpg']}"])


def test_an_image_in_which_a_modality_finds_nothing_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.effect_noise((200, 150), 80).save(tmp_path / "photos" / "noise.png")
    Image.new("RGB", (200, 150), "teal").save(tmp_path / "photos" / "plain.png")
    settings = {**SETTINGS, "sift_codebook": "default"}
    library = create_library(tmp_path / "library", tmp_path / "photos", ("color", "sift"), settings)
    ingest(library)
    query = f"id:{ids_of(library)['plain.png']}"
    with Searcher(library.root) as searcher:
        assert searcher.index == "combo_color_sift"
        assert searcher.search([query])[0].hits[0].path == "plain.png"  # its colours are enough
    why = r"this image has no sift vector: sift finds nothing to describe \(no_features\)$"
    with Searcher(library.root, "sift") as searcher, pytest.raises(QueryError, match=why):
        searcher.search([query])


@pytest.mark.parametrize("query", ["nowhere.jpg", "~nobody-of-this-name.jpg", ".", "", "caf\udce9.png", "id:x", "ID:1"])
def test_a_file_that_cannot_be_read_is_told(searcher: Searcher, query: str) -> None:
    with pytest.raises(QueryError, match=r"cannot be read \(.+\): give the path of an image, or id:N") as caught:
        searcher.search([query])
    str(caught.value).encode()


def test_a_file_that_is_no_picture_is_told(pictures: Library, searcher: Searcher) -> None:
    with pytest.raises(QueryError, match=r"query .*broken\.jpg: the content is none of the image formats"):
        searcher.search([photo(pictures, "broken.jpg")])


def test_a_picture_that_is_too_large_is_told(pictures: Library) -> None:
    with Searcher(pictures.root, max_megapixels=0.01) as searcher, pytest.raises(QueryError, match="max_megapixels"):
        searcher.search([photo(pictures, "rocket.jpg")])


def test_a_home_folder_is_found(pictures: Library, searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", pictures.images_root)
    (answer,) = searcher.search(["~/rocket.jpg"], top_k=1)
    assert answer.hits[0].path == "rocket.jpg"
    assert answer.file == str(photo(pictures, "rocket.jpg"))


def test_there_must_be_a_library_and_an_index(pictures: Library, tmp_path: Path) -> None:
    with pytest.raises(LibraryNotFoundError):
        Searcher(tmp_path)
    with pytest.raises(IndexNotFoundError, match=r"no index 'nose' in .*: there are color$"):
        Searcher(pictures.root, index="nose")


def test_a_library_without_indexes_says_whether_an_ingest_makes_them(own: Library) -> None:
    shutil.rmtree(own.indexes_dir)
    with pytest.raises(IndexNotFoundError, match=r"no index in .*: `imgrec ingest` builds it"):
        Searcher(own.root)
    with Registry.open_for_writing(own.registry_path) as registry:
        registry.connection.execute("DELETE FROM color_vectors")
    with pytest.raises(IndexNotFoundError, match=r"nothing to search in .*: no image has a vector, see"):
        Searcher(own.root)


# While the library changes


def test_a_newly_published_version_is_taken_up(own: Library) -> None:
    with Searcher(own.root) as searcher:
        (before,) = searcher.search([photo(own, "rocket.jpg")], top_k=100)
        photo(own, "rocket.jpg").rename(photo(own, "moved.jpg"))
        photo(own, "china.jpg").unlink()
        Image.new("RGB", (50, 50), "red").save(photo(own, "red.png"))
        ingest(own)
        (after,) = searcher.search([photo(own, "moved.jpg")], top_k=100)
    assert after.version != before.version
    assert {hit.path for hit in after.hits} == ({hit.path for hit in before.hits} | {"red.png", "moved.jpg"}) - {
        "china.jpg",
        "rocket.jpg",
    }
    assert after.hits[0].id == before.hits[0].id


def test_versions_published_many_times_stop_no_searcher(own: Library) -> None:
    with Searcher(own.root) as searcher:
        for number in range(4):
            Image.new("RGB", (50, 50), (60 * number, 0, 0)).save(photo(own, f"{number}.png"))
            ingest(own)
        assert len(searcher.search([photo(own, "rocket.jpg")], top_k=100)[0].hits) == 13


def test_new_vector_settings_are_taken_up_with_their_index(own: Library) -> None:
    with Searcher(own.root) as searcher:
        changed = own.with_vector_settings({"bins": [4, 4, 4], "decode_min_side": 128})
        (before,) = searcher.search([photo(own, "rocket.jpg")])
        ingest(changed)
        (after,) = searcher.search([photo(own, "rocket.jpg")])
    assert before.hits[0].path == after.hits[0].path == "rocket.jpg"
    assert after.hits[0].score == pytest.approx(1, abs=1e-5)
    assert before.version != after.version


def test_an_index_from_before_there_was_a_choice_answers_until_the_new_vectors_are_there(own: Library) -> None:
    """As after `imgrec reembed --icc-profiles srgb`: a photo is found by its old vector, then by its new one."""
    profile = rgb_profile(*PROPHOTO)
    Image.open(photo(own, "rocket.jpg")).save(photo(own, "wide.png"), icc_profile=profile)
    ingest(own)
    with Searcher(own.root) as searcher:
        (first,) = searcher.search([photo(own, "wide.png")])
        changed = own.with_vector_settings({**own.vector_settings, "icc_profiles": "srgb", "precision": "bf16"})
    with Searcher(own.root) as searcher:
        (before,) = searcher.search([photo(own, "wide.png")])
        ingest(changed)
        (after,) = searcher.search([photo(own, "wide.png")])
    assert first.hits == before.hits
    assert [hit.score for hit in before.hits[:2]] == pytest.approx([1, 1], abs=1e-2)
    assert after.hits[0].path == "wide.png"
    assert after.hits[0].score == pytest.approx(1, abs=1e-5)
    assert after.hits[1].score < 0.9
    assert before.version != after.version


def test_a_version_that_cannot_be_opened_leaves_the_open_one_in_service(own: Library) -> None:
    folder = IndexFolder(own.indexes_dir, "color")
    with Searcher(own.root) as searcher:
        (before,) = searcher.search([photo(own, "rocket.jpg")])
        folder.version_dir("damaged").mkdir()
        folder.manifest_path("damaged").write_text("{")
        folder.pointer.write_text("damaged")
        (after,) = searcher.search([photo(own, "rocket.jpg")])
    assert after.version == before.version
    assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits]


def test_an_index_by_other_code_is_refused(own: Library) -> None:
    folder = IndexFolder(own.indexes_dir, "color")
    path = folder.manifest_path(folder.read_manifest().version)
    path.write_text(re.sub(r'"fingerprint": "\w+"', '"fingerprint": "0000000000000000"', path.read_text()))
    with pytest.raises(EmbedderParameterError, match=r"another version of color .*: run `imgrec ingest`"):
        Searcher(own.root)


def test_a_library_whose_photos_are_all_gone_has_no_hits(own: Library) -> None:
    query = photo(own, "rocket.jpg").rename(own.root / "query.jpg")
    for path in Path(own.images_root).rglob("*.*"):
        path.unlink()
    ingest(own)
    with Searcher(own.root) as searcher:
        assert searcher.search([query])[0].hits == ()


# Preview


def preview_size(cells: int) -> tuple[int, int]:
    columns = min(COLUMNS, cells)
    return columns * (TILE + MARGIN) + MARGIN, -(-cells // columns) * (TILE + CAPTION + MARGIN) + MARGIN


def tile_of(sheet: Image.Image, place: int, top: int = 0) -> NDArray[np.uint8]:
    x = MARGIN + place % COLUMNS * (TILE + MARGIN)
    y = top + MARGIN + place // COLUMNS * (TILE + CAPTION + MARGIN)
    return np.asarray(sheet.crop((x, y, x + TILE, y + TILE)))


def preview(answer: Answer, target: Path) -> Image.Image:
    write_preview(target, [answer])
    with Image.open(target) as sheet:
        assert sheet.format == "PNG"
        return sheet.convert("RGB")


@pytest.mark.parametrize("top_k", [1, 5, 6, 9])
def test_a_preview_shows_the_query_and_every_hit(
    pictures: Library, searcher: Searcher, tmp_path: Path, top_k: int
) -> None:
    (answer,) = searcher.search([photo(pictures, "astronaut.png")], top_k=top_k)
    sheet = preview(answer, tmp_path / "new" / "hits.png")
    assert sheet.size == preview_size(top_k + 1)
    assert np.array_equal(tile_of(sheet, 0), tile_of(sheet, 1))
    assert all(tile_of(sheet, place).std() > 20 for place in range(top_k + 1))
    assert os.listdir(tmp_path / "new") == ["hits.png"]


def test_a_preview_of_several_queries_is_one_sheet(pictures: Library, searcher: Searcher, tmp_path: Path) -> None:
    queries = [photo(pictures, name) for name in ("astronaut.png", "flower.jpg", "rocket.jpg")]
    few, more = searcher.search(queries[:2], top_k=2), searcher.search(queries[2:], top_k=7)
    answers = [*few, *more]
    heights = [preview_size(cells)[1] for cells in (3, 3, 8)]

    write_preview(tmp_path / "hits.PNG", answers)

    with Image.open(tmp_path / "hits.PNG") as sheet:
        assert sheet.size == (preview_size(8)[0], sum(heights))
        tops = [0, heights[0], heights[0] + heights[1]]
        for answer, top in zip(answers, tops, strict=True):
            alone = preview(answer, tmp_path / "alone.png")
            assert block_height(len(answer.hits)) == alone.height
            assert sheet.crop((0, top, alone.width, top + alone.height)).tobytes() == alone.tobytes()
            assert np.array_equal(tile_of(sheet, 0, top), tile_of(sheet, 1, top))


def test_a_preview_shows_hits_whose_files_are_gone_as_such(own: Library, tmp_path: Path) -> None:
    with Searcher(own.root) as searcher:
        (answer,) = searcher.search([photo(own, "coffee.png")], top_k=3)
        for hit in answer.hits:
            Path(hit.file).unlink()
        sheet = preview(answer, tmp_path / "hits.png")
    assert sheet.size == preview_size(4)
    assert np.array_equal(tile_of(sheet, 1), tile_of(sheet, 2))


def test_a_preview_takes_any_file_name(pictures: Library, searcher: Searcher, tmp_path: Path) -> None:
    query = tmp_path / os.fsdecode(b"\xff \xf0\x9f\x93\xb7 " + b"long" * 50 + b"\n.png")
    query.write_bytes(photo(pictures, "coffee.png").read_bytes())
    (answer,) = searcher.search([query], top_k=2)
    assert preview(answer, tmp_path / "hits.png").size == preview_size(3)
