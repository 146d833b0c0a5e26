"""What a run tells Prefect of itself, and of runs that can no longer speak for themselves."""

import logging
from urllib.parse import urlsplit

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Crashed

logger = logging.getLogger(__name__)


def show_outcome(name: str | None, key: str, page: str) -> None:
    """Keep a page in Markdown as an artifact of this flow run, and give the run this name."""
    create_markdown_artifact(page, key=key)
    if name is not None and (context := FlowRunContext.get()) is not None and context.flow_run is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, name=name)


def shows_photos(asked: str) -> bool:
    """Whether pictures and names of photos may be told to the server: `always`, `never`, or to one on this machine."""
    if asked != "local":
        return asked == "always"
    url = get_current_settings().api.url
    return url is None or urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def close_dead_runs(library_uuid: str) -> None:
    """Close the runs of drivers that died while they wrote this library, and mark this run as the one that writes it.

    Only for the holder of the library's lock: whoever else is marked and not at its end has lost the lock, which a
    living driver does not. A run is marked after it has the lock, so one that still waits for it is never closed.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    mark = f"writes:{library_uuid}"
    with get_client(sync_client=True) as client:
        _close(client, mark, context.flow_run.id)
        client.update_flow_run(context.flow_run.id, tags=[*context.flow_run.tags, mark])


def _close(client: SyncPrefectClient, mark: str, ours: object) -> None:
    going = FlowRunFilter(
        id=FlowRunFilterId(not_any_=[ours]),  # type: ignore[list-item] # a UUID
        tags=FlowRunFilterTags(all_=[mark]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])),
    )
    for run in client.read_flow_runs(flow_run_filter=going):
        state: State[None] = Crashed(
            message="The driver died; the next run found the library unlocked and went on from there."
        )
        client.set_flow_run_state(run.id, state, force=True)
        logger.warning("run %s was left running by a driver that died, and is closed as crashed", run.name)
