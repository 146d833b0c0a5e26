"""Pictures from the web: a real server on this machine, and what is not taken from one."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.pictures import real_pictures
from imgrec.search import Answer, Searcher, urls
from imgrec.search.errors import QueryError
from imgrec.search.urls import fetch, is_url
from imgrec.storage.library import Library

COFFEE = next(path for path in real_pictures() if path.stem == "coffee")


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", rest if "://" in rest else f"/{rest}")
            self.end_headers()
            return
        self.send_response(404 if kind == "missing" else 200)
        self.end_headers()
        if kind == "coffee.png":
            self.wfile.write(COFFEE.read_bytes())
        for _ in range(100 if kind == "slow" else 0):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_picture_is_fetched_and_called_by_its_url(site: str, pictures: Library) -> None:
    for path in ("coffee.png", "redirect/coffee.png", "redirect/redirect/coffee.png"):
        url = f"{site}/{path}"
        with Searcher(pictures.root) as searcher:
            (answer,) = searcher.search_each([fetch(url, allow_private=True)], 2, not_itself=True)
        assert isinstance(answer, Answer)
        assert (answer.query, answer.file) == (url, None)
        assert not {"coffee.png", "sub/caf\\xe9.png"} & {hit.path for hit in answer.hits}


def test_no_private_address_is_connected_to_unless_it_is_allowed(site: str) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = f"{site}/coffee.png".replace("127.0.0.1", host)
        with pytest.raises(QueryError, match=r"cannot be fetched: .* is no public address: --urls any takes it"):
            fetch(url)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing", "HTTP Error 404|Not Found"),
        ("redirect/" * 7 + "coffee.png", "redirect"),
        ("redirect/file:///etc/passwd", "not allowed"),
        ("redirect/ftp://example.org/x.png", "neither http nor https"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(site: str, path: str, said: str) -> None:
    with pytest.raises(QueryError, match=said) as error:
        fetch(f"{site}/{path}", allow_private=True)
    assert "\n" not in str(error.value)


def test_bytes_and_time_are_limited(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "MAX_BYTES", 100_000)
    with pytest.raises(QueryError, match="it has more than 0 MB"):
        fetch(f"{site}/coffee.png", allow_private=True)
    monkeypatch.setattr(urls, "TIMEOUT_S", 0.3)
    with pytest.raises(QueryError, match="it takes longer than"):
        fetch(f"{site}/slow", allow_private=True)
    with pytest.raises(QueryError, match="refused"):
        fetch("http://127.0.0.1:9/x.png", allow_private=True)


def test_a_searcher_fetches_nothing(site: str, pictures: Library, tmp_path: Path) -> None:
    assert is_url("HTTPS://example.org/a.jpg")
    assert not is_url("http.jpg")
    with Searcher(pictures.root) as searcher, pytest.raises(QueryError, match="cannot be read"):
        searcher.search([f"{site}/coffee.png"])
