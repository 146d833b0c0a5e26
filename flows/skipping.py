"""What a deployment does where it has to give way."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect.runtime import deployment
from prefect.states import Completed

from imgrec.storage.errors import LibraryLockedError

P = ParamSpec("P")
R = TypeVar("R")


def skipped_if_locked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a deployment's run end as skipped, and not as failed, where somebody else writes the library."""

    @wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except LibraryLockedError as error:
            if deployment.id is None:
                raise
            return Completed(name="Skipped", message=str(error))  # type: ignore[return-value] # Prefect takes it as state

    return run
