"""A real HTTP server on this machine that serves files as badly as networks do, and as the Hugging Face Hub does."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how. The counters go down with every request that they spoil."""

    files: dict[str, bytes]
    drop_after: int | None = None  # bytes of an answer, after which the connection ends
    drops: int = 10**9
    errors: int = 0  # answers that are 503 instead
    ranges: bool = True
    elsewhere: str = ""  # where files are, as the Hub sends to another host for large ones
    moved: str = ""  # where GET sends to
    says_no_length: bool = False
    claimed: int = 0  # bytes more than there are, by Content-Length
    served: list[str] = field(default_factory=list)  # the Range of every GET, "" where there was none
    tokens: list[str | None] = field(default_factory=list)
    address: str = ""

    def digest(self, path: str) -> str:
        return hashlib.sha256(self.files[path]).hexdigest()


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            site.tokens.append(self.headers.get("authorization"))
            if (data := site.files.get(self.path)) is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
            elif site.elsewhere:
                self.send_response(302)
                self.send_header("Location", site.elsewhere + self.path)
                self.send_header("X-Linked-Etag", f'"{site.digest(self.path)}"')
                self.send_header("X-Linked-Size", str(len(data)))
                self.send_header("X-Repo-Commit", "c0ffee")
            else:
                self.send_response(200)
                self.send_header("ETag", f'"{site.digest(self.path)}"')
                self.send_header("X-Repo-Commit", "c0ffee")
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()

        def do_GET(self) -> None:
            if self.path.startswith("/api/"):  # what huggingface_hub asks of its own accord, now and then
                self.send_error(404)
                return
            asked = self.headers.get("Range", "")
            site.served.append(asked)
            site.tokens.append(self.headers.get("authorization"))
            if site.errors:
                site.errors -= 1
                self.send_error(503)
                return
            if site.moved:
                self.send_response(302)
                self.send_header("Location", site.moved + self.path)
                self.end_headers()
                return
            if (data := site.files.get(self.path)) is None:
                self.send_error(404)
                return
            begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
            if asked and begin >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            if not site.says_no_length:
                self.send_header("Content-Length", str(len(data) - begin + site.claimed))
            self.end_headers()
            rest = data[begin:]
            if site.drop_after is not None and site.drops and len(rest) > site.drop_after:
                site.drops -= 1
                rest = rest[: site.drop_after]
            self.wfile.write(rest)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
