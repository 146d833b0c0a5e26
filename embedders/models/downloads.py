"""Files from the network: resumed where they broke off, and verified before anybody reads them."""

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imgrec.embedders.errors import ModelFileError

TIMEOUT_S = 30.0
# As often in a row a connection may break without a single byte.
ATTEMPTS = 5
# The largest of open_clip's models has 20 GB.
MOST_BYTES = 64 * 2**30
_BLOCK = 2**20
_PASSING = (408, 429)

# Told the bytes that a file has so far, and the bytes that it will have, if the server says so.
Progress = Callable[[int, int | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """A file to download. `digest` is SHA-256, or the SHA-1 by which git names a file; None if nobody publishes one."""

    url: str
    digest: str | None
    bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def download(remote: Remote, target: Path, on_progress: Progress = lambda done, total: None) -> None:
    """Download a file to `target`, going on from what an interrupted call has left beside it.

    Raises:
        ModelFileError: the server does not give it, the connection keeps breaking, or it is not the file it should be.
    """
    part = target.with_name(f"{target.name}.part")
    part.touch()
    failures = 0
    while True:
        before = part.stat().st_size
        try:
            _go_on(remote, part, before, on_progress)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in _PASSING:
                raise ModelFileError(f"{remote.url} is not to be had ({error.code} {error.reason})") from None
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
        failures = 1 if part.stat().st_size > before else failures + 1
        if failures >= ATTEMPTS:
            raise ModelFileError(
                f"{remote.url} breaks off at {part.stat().st_size:,} bytes ({reason}): run the command again to go on"
            )
        time.sleep(0.2 * 2**failures)
    _verify(remote, part)
    part.rename(target)


def _go_on(remote: Remote, part: Path, begin: int, on_progress: Progress) -> None:
    """Append what is missing."""
    if begin and begin == remote.bytes:
        return
    headers = {"User-Agent": "image-recommender", "Accept-Encoding": "identity", **remote.headers}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        answer = urllib.request.build_opener(_KeepingTheToken).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not begin:
            raise
        error.close()  # there is nothing after what is here, if it is the file at all: see the digest
        return
    with answer, part.open("r+b") as file:
        if answer.status != 206 or _first_byte(answer) != begin:  # it begins anew, whatever was asked for
            begin = 0
        file.seek(begin)
        file.truncate()
        length = answer.headers.get("Content-Length")
        total = remote.bytes or (begin + int(length) if length else None)
        _refuse_too_large(remote, total)
        on_progress(begin, total)
        while block := answer.read(_BLOCK):
            begin += len(block)
            if remote.bytes is not None and begin > remote.bytes:
                break  # the rest would be wrong too
            _refuse_too_large(remote, begin)  # where the server does not say how long it is
            file.write(block)
            on_progress(begin, total)
        if total is not None and begin < total:
            raise http.client.IncompleteRead(b"", total - begin)


class _KeepingTheToken(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and takes a token to no other scheme, host or port: urllib would take it everywhere."""

    def redirect_request(self, req: urllib.request.Request, *details: Any) -> urllib.request.Request | None:
        following = super().redirect_request(req, *details)
        if following is not None and urlsplit(following.full_url)[:2] != urlsplit(req.full_url)[:2]:
            following.remove_header("Authorization")
        return following


def _refuse_too_large(remote: Remote, size: int | None) -> None:
    if size is not None and size > MOST_BYTES:
        raise ModelFileError(f"{remote.url} has more than {MOST_BYTES:,} bytes, which no model has: nothing was stored")


def _first_byte(answer: http.client.HTTPResponse) -> int:
    matched = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(matched[1]) if matched else -1


def _verify(remote: Remote, part: Path) -> None:
    if remote.digest is None:
        return
    size = part.stat().st_size
    with part.open("rb") as stream:
        begun = hashlib.sha1(b"blob %d\0" % size) if len(remote.digest) == 40 else hashlib.sha256()
        digest = hashlib.file_digest(stream, lambda: begun).hexdigest()
    if digest != remote.digest:
        part.unlink()
        raise ModelFileError(
            f"what {urlsplit(remote.url).netloc} sent is not the file it should be ({size:,} bytes of {digest[:16]}… "
            f"instead of {remote.digest[:16]}…): nothing was stored; run the command again"
        )
