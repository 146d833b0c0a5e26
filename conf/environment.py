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
    # A tracking server that is down costs seconds, not the seven patient retries of the default.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # It tells of every table that it creates.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_environment() -> None:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
