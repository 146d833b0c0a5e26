"""The temporary server that Prefect starts where none is configured, made a good child.

Prefect starts it as a plain child process: a Ctrl-C in the terminal would end it under a flow that is finishing its
work, and it would outlive a command that was killed, for ever.
"""

import os
import subprocess
import sys
import threading
import time
from itertools import count
from typing import Any

from prefect.settings import get_current_settings

from storage.errors import ImgrecError

CHECK_EVERY_S = 1.0
# A port may be taken by another program meanwhile; Prefect would try for five minutes.
MAX_STARTS = 3


class ServerError(ImgrecError):
    """Prefect's temporary server does not start."""


def tame_temporary_server() -> None:
    """Let a server that Prefect starts for this process leave Ctrl-C to us, and end with us, however we end."""
    if get_current_settings().api.url:
        return
    from prefect.server.api.server import SubprocessASGIServer

    starts = count(1)

    def run(server: SubprocessASGIServer) -> subprocess.Popen[Any]:
        if next(starts) > MAX_STARTS:
            raise ServerError(
                f"Prefect's temporary server does not start: its database is in {get_current_settings().home}, which "
                "must be writable and have some MB of space; `prefect server start` shows the reason"
            )
        # What Prefect passes to its own, https://github.com/PrefectHQ/prefect/blob/3.8.8/src/prefect/server/api/server.py
        mine = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        theirs = get_current_settings().to_environment_variables(exclude_unset=True)
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(server.port), str(os.getpid())],
            env={**os.environ, **mine, **theirs, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )

    SubprocessASGIServer._run_uvicorn_command = run  # type: ignore[method-assign, assignment] # no other way


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_EVERY_S)
    os._exit(0)


def _serve(port: int, parent: int) -> None:
    import uvicorn

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    uvicorn.run("prefect.server.api.server:create_app", factory=True, port=port, log_level="error", lifespan="on")


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
