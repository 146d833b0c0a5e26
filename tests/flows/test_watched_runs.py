"""What a person sees in Prefect's UI, asked of a real server."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from imgrec.flows.ingest_images import ingest_images
from imgrec.flows.search_images import search_images
from imgrec.storage.library import open_library
from imgrec.tasks.flow_runs import shows_photos

pytestmark = pytest.mark.usefixtures("through_prefect")


def run_of(state: object) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)  # type: ignore[attr-defined]


def page_of(run: FlowRun, key: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])),
        )
    (page,) = [artifact.data for artifact in found if artifact.key == key]
    return str(page)


def test_a_run_is_named_by_what_it_did_and_ends_with_tables(photos: Path, library: Path) -> None:
    first = run_of(ingest_images(photos, library, modalities=["color"], return_state=True))
    assert first.name == f"{photos.name} +6"
    page = page_of(first, "imgrec-outcome")
    assert "| new | 6 |" in page and "| color | built |" in page and "MLflow run `" in page
    assert str(photos) not in page

    (photos / "cell.png").unlink()
    second = run_of(ingest_images(photos, library, return_state=True))
    assert second.name == f"{photos.name} \N{MINUS SIGN}1"
    third = run_of(ingest_images(photos, library, return_state=True))
    assert third.name == f"{photos.name} as it was"


@pytest.mark.parametrize(("shown", "pictures"), [("local", 2), ("never", 0)])
def test_hits_are_an_artifact_with_pictures_if_the_server_may_have_them(
    photos: Path, library: Path, shown: str, pictures: int
) -> None:
    ingest_images(photos, library, modalities=["color"])
    query = str(photos / "cell.png")
    asked = {"show_photos": shown}
    run = run_of(search_images([query], library, top_k=2, settings=asked, return_state=True))
    page = page_of(run, "imgrec-hits")
    assert page.count('<img src="data:image/webp;base64,') == pictures
    assert page.count("<tr>") == 2 and ("cell.png" in page) == (pictures > 0)


def test_a_run_that_a_dead_driver_left_running_is_closed_by_the_next(photos: Path, library: Path) -> None:
    ingest_images(photos, library, modalities=["color"])
    mark = f"writes:{open_library(library).uuid}"
    with get_client(sync_client=True) as client:
        dead = client.create_flow_run(ingest_images, tags=[mark], state=Running())
        other = client.create_flow_run(ingest_images, tags=["writes:of-another-library"], state=Running())
        run = run_of(ingest_images(photos, library, return_state=True))
        closed, untouched = client.read_flow_run(dead.id), client.read_flow_run(other.id)
        marked = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]), tags=FlowRunFilterTags(all_=[mark]))
        )
    assert closed.state is not None and untouched.state is not None and run.state is not None
    assert (closed.state.is_crashed(), untouched.state.is_running(), run.state.is_completed()) == (True, True, True)
    assert "driver died" in str(closed.state.message)
    assert len(marked) == 1


def test_only_a_server_on_this_machine_is_told_of_photos_by_default() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    for url, told in (("http://127.0.0.1:4200/api", True), ("https://prefect.example.org/api", False)):
        with temporary_settings({PREFECT_API_URL: url}):
            assert shows_photos("local") is told
            assert (shows_photos("always"), shows_photos("never")) == (True, False)
