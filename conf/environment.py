"""What must be in the environment before Prefect and MLflow are imported. What the user has set stays."""

import os

_DEFAULTS = {
    # A private photo library calls nobody.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The first start on a new database migrates it, which took 26 s on a loaded two-core machine; the default is 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # The ephemeral server reports SQLite's "database is locked" with a traceback, and tries again.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # What the pipeline says belongs to the run in Prefect's UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "imgrec",
    # Outside of a run the same code is a plain library, and its warnings are nobody's mistake.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Events that do not reach a server harm no run; the console's level does not quiet what it says of them.
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    # A tracking server that is down costs seconds, not the seven patient retries of the default.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # It tells of every table that it creates.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def prepare_environment() -> None:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path's raises
        # Without HOME, a user id that no passwd file names has no home, and Prefect and MLflow cannot be imported.
        # With `docker run --user` such a user gets this one, which may not be written: what wants to is told so.
        os.environ["HOME"] = "/"
    _keep_loopback_from_proxies()


def _keep_loopback_from_proxies() -> None:
    """Add this machine to NO_PROXY where there is a proxy, which cannot reach the servers that run here.

    Every client below us reads it: httpx, requests, urllib, websockets. Without a proxy nothing is set, since macOS
    looks for the system's own proxies only as long as no such variable is there.
    """
    names = {name for name in os.environ if name.lower().endswith("_proxy")}
    exempt = {name for name in names if name.lower() == "no_proxy"}
    if names == exempt:
        return
    for name in exempt or {"NO_PROXY"}:
        hosts = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in hosts:  # for urllib it means all hosts only if it stands alone
            os.environ[name] = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))
