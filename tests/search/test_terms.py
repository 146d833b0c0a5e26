"""Words, and mixtures of words and pictures, on a library of real pictures and a small CLIP model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.search import Answer, Searcher, Term
from imgrec.search.errors import IndexNotFoundError, QueryError
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.preview import write_preview
from imgrec.search.terms import describe_terms, mix, parse_terms
from imgrec.storage.library import Library
from imgrec.storage.photos.decoding import decode
from tests.embedders.openclip_files import TINY, write_folder
from tests.search.conftest import make_library
from tests.search.libraries import ingest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def machine(home: Path) -> Machine:
    return Machine(home / "models", "cpu")


@pytest.fixture(scope="module")
def library(home: Path, machine: Machine) -> Library:
    """Colours and a small CLIP model: two indexes, and their combination."""
    card = add_openclip(machine.models_root, "tiny", write_folder(home / "original")).card
    library = make_library(home)
    settings = {**library.vector_settings, "decode_min_side": 224, "openclip_model": card}
    library = library.with_vector_settings(settings).with_modalities(("color", "openclip"))
    ingest(library, models_root=machine.models_root)
    return library


@pytest.fixture
def searcher(library: Library, machine: Machine) -> Iterator[Searcher]:
    with Searcher(library.root, machine=machine, for_text=True) as searcher:
        yield searcher


def embedder_of(library: Library, machine: Machine) -> OpenClipEmbedder:
    embedder = create_embedder("openclip", library.vector_settings)
    assert isinstance(embedder, OpenClipEmbedder)
    embedder.load(machine)
    return embedder


def all_vectors(library: Library, machine: Machine) -> dict[str, Vectors]:
    """The vector of each picture, computed anew."""
    root = Path(library.images_root)
    pictures = {path.name: path for path in root.iterdir() if path.is_file() and path.name != "broken.jpg"}
    side = library.vector_settings["decode_min_side"]
    rows = embedder_of(library, machine).embed([decode(path.read_bytes(), side, 256) for path in pictures.values()])
    return dict(zip(pictures, rows, strict=True))


def assert_found(answer: Answer, query: Vectors, vectors: dict[str, Vectors]) -> None:
    """The hits are the nearest of all, and their scores the cosines."""
    wanted = sorted(((float(query @ vector), name) for name, vector in vectors.items()), reverse=True)
    found = [(hit.score, hit.path) for hit in answer.hits if not hit.path.startswith("sub/")]
    assert [name for _, name in found] == [name for _, name in wanted]
    assert np.allclose([score for score, _ in found], [score for score, _ in wanted], rtol=0, atol=1e-5)


def test_words_find_the_pictures_nearest_to_them(library: Library, machine: Machine, searcher: Searcher) -> None:
    vectors = all_vectors(library, machine)
    embedder = embedder_of(library, machine)
    tops = set()
    for text in ("a red car", "a cat", "a rocket at night", "coffee", "a woman in orange", "a temple in China"):
        answer = searcher.search_terms([Term(text)], top_k=20)
        assert (answer.index, answer.query) == ("openclip", f'"{text}"')
        assert_found(answer, embedder.embed_texts([text], machine)[0], vectors)
        assert answer.hits[0].scores == {"openclip": answer.hits[0].score}
        tops.add(tuple(hit.path for hit in answer.hits))
    assert len(tops) > 1  # or else words would say nothing


def test_a_mixture_is_the_weighted_sum(library: Library, machine: Machine, searcher: Searcher) -> None:
    vectors = all_vectors(library, machine)
    photos = Path(library.images_root)
    red, cat = embedder_of(library, machine).embed_texts(["a red car", "a cat"], machine)
    (by_id,) = [hit.id for hit in searcher.search([photos / "coffee.png"], 1)[0].hits]
    terms = parse_terms(
        ["2:a red car"], [str(photos / "rocket.jpg"), f".5:id:{by_id}"], ["a cat", str(photos / "china.jpg")]
    )
    total = 2 * red + vectors["rocket.jpg"] + 0.5 * vectors["coffee.png"] - cat - vectors["china.jpg"]
    answer = searcher.search_terms(terms, top_k=20)
    assert_found(answer, total / np.linalg.norm(total), vectors)
    assert answer.query == (
        f'2 × "a red car" + {photos / "rocket.jpg"} + 0.5 × id:{by_id} − "a cat" − {photos / "china.jpg"}'
    )


def test_a_mixture_of_one_picture_is_that_picture(library: Library, machine: Machine) -> None:
    for index in ("color", "openclip", "combo_color_openclip"):
        with Searcher(library.root, index, machine=machine) as searcher:
            path = Path(library.images_root) / "chelsea.png"
            mixed = searcher.search_terms([Term(str(path), 3, is_text=False)], 20)
            (alone,) = searcher.search([path], 20)
            assert [hit.id for hit in mixed.hits] == [hit.id for hit in alone.hits]
            assert np.allclose([hit.score for hit in mixed.hits], [hit.score for hit in alone.hits], atol=1e-6)
            assert mixed.hits[0].scores == pytest.approx(alone.hits[0].scores, abs=1e-6)


def test_pictures_are_mixed_in_every_modality_of_a_combination(library: Library, machine: Machine) -> None:
    with Searcher(library.root, machine=machine) as searcher:
        assert searcher.index == "combo_color_openclip"
        photos = Path(library.images_root)
        terms = parse_terms([], [str(photos / "rocket.jpg")], [str(photos / "china.jpg")])
        (first, *_) = searcher.search_terms(terms, 20).hits
        weights = {member.modality: member.weight for member in searcher._serving.open.members}
        assert first.score == pytest.approx(sum(weights[name] * (score or 0) for name, score in first.scores.items()))
        assert first.path == "rocket.jpg"


@pytest.mark.parametrize("index", ["color", "combo_color_openclip"])
def test_an_index_that_does_not_read_text_names_the_one_that_does(
    library: Library, machine: Machine, index: str
) -> None:
    with Searcher(library.root, index, machine=machine, for_text=True) as searcher:
        message = rf"^index {index} does not read text \(color does not\): search index openclip$"
        with pytest.raises(IndexNotFoundError, match=message):
            searcher.search_terms([Term("a red car")])


def test_a_library_that_does_not_read_text_says_how_to_get_there(pictures: Library) -> None:
    with pytest.raises(IndexNotFoundError, match="has no index that reads text: `imgrec ingest --modality openclip"):
        Searcher(pictures.root, for_text=True)


def test_what_cancels_itself_out_is_told(library: Library, searcher: Searcher) -> None:
    path = str(Path(library.images_root) / "rocket.jpg")
    for terms in ([Term("a cat"), Term("a cat", -1)], [Term(path, 2, False), Term(path, -2, False)]):
        with pytest.raises(QueryError, match="nothing is left of it"):
            searcher.search_terms(terms)


def test_a_picture_that_is_not_there_is_told(searcher: Searcher) -> None:
    with pytest.raises(QueryError, match=r"query none\.jpg cannot be read"):
        searcher.search_terms(parse_terms(["a cat"], ["none.jpg"]))
    with pytest.raises(QueryError, match="no image of this id"):
        searcher.search_terms(parse_terms(["a cat"], [], ["id:999"]))


def test_a_contact_sheet_shows_the_words(library: Library, searcher: Searcher, tmp_path: Path) -> None:
    answer = searcher.search_terms([Term("a red car " * 30)], 3)
    write_preview(tmp_path / "hits.png", [answer])
    other = searcher.search_terms([Term("a cat")], 3)
    write_preview(tmp_path / "other.png", [other])
    sheets = [np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("hits.png", "other.png")]
    assert sheets[0].shape == sheets[1].shape
    assert (sheets[0] != sheets[1]).any()


# Terms

PARSED: dict[str, tuple[Callable[[], list[Term]], list[tuple[str, float, bool]]]] = {
    "words": (lambda: parse_terms(["a red car"]), [("a red car", 1, True)]),
    "weighted": (
        lambda: parse_terms(["2:red", "0.5:car", ".5:x"]),
        [("red", 2, True), ("car", 0.5, True), ("x", 0.5, True)],
    ),
    "a time": (lambda: parse_terms(["1:12:30 o'clock"]), [("12:30 o'clock", 1, True)]),
    "no number": (lambda: parse_terms(["a:b", "-1:b", ":b"]), [("a:b", 1, True), ("-1:b", 1, True), (":b", 1, True)]),
    "pictures": (lambda: parse_terms([], ["id:7", "3:a.jpg"]), [("id:7", 1, False), ("a.jpg", 3, False)]),
    "minus": (lambda: parse_terms([], [], ["2:snow", "id:7"]), [("snow", -2, True), ("id:7", -1, False)]),
    "minus a file": (lambda: parse_terms([], [], [f"2:{__file__}"]), [(__file__, -2, False)]),
    "minus much": (lambda: parse_terms([], [], ["x" * 5_000]), [("x" * 5_000, -1, True)]),
}


@pytest.mark.parametrize("case", PARSED)
def test_terms_are_read(case: str) -> None:
    read, wanted = PARSED[case]
    assert [(term.value, term.weight, term.is_text) for term in read()] == wanted


@pytest.mark.parametrize("text", ["", "  ", "0:red", "2: "])
def test_a_term_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_terms([text])


@given(st.floats(0.01, 100).map(lambda weight: round(weight, 3)), st.text(min_size=1).filter(str.strip))
def test_what_was_weighted_comes_back(weight: float, text: str) -> None:
    assert parse_terms([f"{weight:f}:{text}"]) == [Term(text, weight)]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0])), min_size=1, max_size=5))
def test_a_mixture_has_length_one_or_is_refused(picked: list[tuple[int, float]]) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    terms = [Term(str(number), weight) for number, weight in picked]
    total = sum(weight * rows[number].astype(np.float64) for number, weight in picked)
    vectors = [{"openclip": rows[number]} for number, _ in picked]
    if np.linalg.norm(total) < 1e-5:
        with pytest.raises(QueryError):
            mix(terms, vectors, "openclip")
        return
    mixed = mix(terms, vectors, "openclip")
    assert mixed is not None
    assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-6)
    assert float(mixed @ total) == pytest.approx(np.linalg.norm(total), rel=1e-5)
    assert mix(terms, vectors, "color") is None


def test_a_mixture_is_told_in_one_line() -> None:
    terms = [Term("snow", -0.25), Term("a.jpg", 1, is_text=False), Term("sea", 2)]
    assert describe_terms(terms) == '− 0.25 × "snow" + a.jpg + 2 × "sea"'


def test_a_model_without_a_tokenizer_inside_says_so(home: Path, machine: Machine, tmp_path: Path) -> None:
    model = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}}
    card = add_openclip(machine.models_root, "other", write_folder(tmp_path / "original", model)).card
    library = make_library(tmp_path)
    library = library.with_vector_settings({**library.vector_settings, "decode_min_side": 224, "openclip_model": card})
    library = library.with_modalities(("openclip",))
    ingest(library, models_root=machine.models_root)
    told = pytest.raises(EmbedderParameterError, match=r"^other reads text by a tokenizer of another library")
    with Searcher(library.root, machine=machine, for_text=True) as searcher, told:
        searcher.search_terms([Term("a cat")])
