"""The server that `imgrec up` of this user runs: where it is, for other commands, told without Prefect."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from imgrec.flows.cli.server_named import API_URL, server_is_named

AUTH = "PREFECT_API_AUTH_STRING"
ANSWERS_WITHIN_S = 0.5


@dataclass(frozen=True)
class OwnServer:
    """`auth` is `user:password`, or empty."""

    port: int
    pid: int
    auth: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What clients of it need in their environment."""
        return {API_URL: f"{self.url}/api"} | ({AUTH: self.auth} if self.auth else {})

    def answers(self) -> bool:
        """Whether it runs, and something listens there."""
        with suppress(OSError):
            os.kill(self.pid, 0)
            socket.create_connection(("127.0.0.1", self.port), ANSWERS_WITHIN_S).close()
            return True
        return False


def use_own_server() -> None:
    """Let this process use the server of `imgrec up`, if that runs and no other is configured."""
    own = find_own_server()
    if own is not None and not server_is_named():
        os.environ |= own.environment


def find_own_server() -> OwnServer | None:
    """Read where it is, if it runs."""
    try:
        own = OwnServer(**json.loads(_place().read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return own if own.answers() else None


@contextmanager
def announced(own: OwnServer) -> Iterator[None]:
    """Tell other commands of this user meanwhile; nobody else may read the password."""
    place = _place()
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(f".{own.pid}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(own), file)
    temporary.replace(place)
    try:
        yield
    finally:
        place.unlink(missing_ok=True)


def _place() -> Path:
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    return Path(home).expanduser() / "imgrec-up.json"
