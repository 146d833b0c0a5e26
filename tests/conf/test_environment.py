"""The environment of Prefect and MLflow: this machine is reached directly, all others as the user says."""

import http.server
import os
import threading
import urllib.request
from collections.abc import Iterator

import httpx
import pytest
import requests
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from imgrec.conf.environment import prepare_environment

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"NO_PROXY", "no_proxy", *(name for name in os.environ if name.lower().endswith("_proxy"))}:
        monkeypatch.setenv(name, "")  # so that what is set meanwhile goes
        monkeypatch.delenv(name)


@pytest.fixture
def port() -> Iterator[int]:
    """A server on this machine."""
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    "theirs", [{}, {"NO_PROXY": "intranet"}, {"no_proxy": ""}, {"no_proxy": "a.b, c", "NO_PROXY": "d"}]
)
def test_this_machine_is_reached_without_a_proxy(
    port: int, theirs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, DEAD)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)

    prepare_environment()

    for host in ("127.0.0.1", "localhost"):
        assert httpx.get(f"http://{host}:{port}").text == "here"
        assert requests.get(f"http://{host}:{port}", timeout=5).text == "here"
        with urllib.request.build_opener().open(f"http://{host}:{port}", timeout=5) as answer:
            assert answer.read() == b"here"
        assert get_proxy(parse_uri(f"ws://{host}:{port}/api/events/in")) is None
    assert get_proxy(parse_uri("wss://prefect.example/api")) == DEAD
    assert requests.utils.get_environ_proxies("http://mlflow.example")["http"] == DEAD
    with pytest.raises(httpx.ConnectError):  # by the dead proxy: the name has no address that could be asked
        httpx.get("http://mlflow.example")


def test_what_a_user_exempts_stays_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", DEAD)
    monkeypatch.setenv("no_proxy", "intranet, 10.0.0.7")
    for _ in range(2):
        prepare_environment()
        assert os.environ["no_proxy"] == "intranet,10.0.0.7,localhost,127.0.0.1,::1"
    assert "NO_PROXY" not in os.environ


def test_an_exemption_of_all_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", DEAD)
    monkeypatch.setenv("NO_PROXY", "*")
    prepare_environment()
    assert os.environ["NO_PROXY"] == "*"
    assert urllib.request.proxy_bypass("mlflow.example")


def test_without_a_proxy_nothing_is_set() -> None:
    prepare_environment()
    assert not [name for name in os.environ if name.lower() == "no_proxy"]
