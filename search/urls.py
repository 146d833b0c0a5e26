"""Query pictures from the web, for whoever asks for it: nothing else here ever opens a connection."""

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from io import BytesIO
from typing import Any

from imgrec.search.errors import QueryError

MAX_BYTES = 100_000_000
TIMEOUT_S = 30.0
MAX_REDIRECTS = 5
_READ_BYTES = 65_536


class Fetched(BytesIO):
    """A picture from the web as an open file, called by its URL."""

    def __init__(self, url: str, data: bytes) -> None:
        super().__init__(data)
        self.name = url


def is_url(query: str) -> bool:
    return query.lower().startswith(("http://", "https://"))


def fetch(url: str, allow_private: bool = False) -> Fetched:
    """Fetch a picture by http or https: at most 100 MB, within 30 s and 5 redirects.

    Unless `allow_private`, only public addresses are connected to, also after a redirect: a URL from elsewhere shall
    not ask this machine's own network. Where a proxy is configured (`https_proxy`), that is connected to, and decides.

    Raises:
        QueryError: it cannot be fetched so.
    """
    end = time.monotonic() + TIMEOUT_S
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), _Http(allow_private), _Https(allow_private), _FewRedirects(),
        urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "image-recommender", "Accept": "image/*"})
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return Fetched(url, _read(response, end))
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise QueryError(f"query {url!r} cannot be fetched: {' '.join(str(reason).split())}") from error


def _read(response: Any, end: float) -> bytes:
    parts, size = [], 0
    while part := response.read1(_READ_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
        if time.monotonic() > end:
            raise TimeoutError(f"it takes longer than {TIMEOUT_S:.0f} s")
    return b"".join(parts)


class _FewRedirects(urllib.request.HTTPRedirectHandler):
    """To http and https only, as the handlers above know no other."""

    max_redirections = MAX_REDIRECTS
    max_repeats = MAX_REDIRECTS

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        if not is_url(given[-1]):
            given[1].close()  # the answer that says so
            raise ValueError(f"it leads to {given[-1]!r}, which is neither http nor https")
        return super().redirect_request(*given)


class _PublicOnly:
    """A connection that is closed before anything is sent, where the other end is not on the public internet.

    Looking at the name's addresses beforehand would not do: a second look-up may say another one.
    """

    sock: socket.socket | None

    def check_peer(self) -> None:
        assert self.sock is not None  # it is connected
        address = ipaddress.ip_address(self.sock.getpeername()[0].partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global:
            self.sock.close()
            raise ValueError(f"{address} is no public address: --urls any takes it")


class _PublicHTTPConnection(http.client.HTTPConnection, _PublicOnly):
    def connect(self) -> None:
        super().connect()
        self.check_peer()


class _PublicHTTPSConnection(http.client.HTTPSConnection, _PublicOnly):
    def connect(self) -> None:
        super().connect()
        self.check_peer()


class _Http(urllib.request.HTTPHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        free = self._allow_private or request.has_proxy()
        return self.do_open(http.client.HTTPConnection if free else _PublicHTTPConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        # Through a proxy, the connection is one to the proxy.
        free = self._allow_private or getattr(request, "_tunnel_host", None) is not None
        return self.do_open(http.client.HTTPSConnection if free else _PublicHTTPSConnection, request)
