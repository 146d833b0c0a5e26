"""prefect.yaml: what it says is what a server gets, since Prefect drops misplaced keys without a word."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import DeploymentConfig
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema_from_entrypoint
from pydantic import BaseModel

PROJECT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
DEPLOYMENTS: dict[str, dict[str, Any]] = {deployment["name"]: deployment for deployment in PROJECT["deployments"]}


def unknown_keys(given: dict[str, Any], model: type[BaseModel]) -> set[str]:
    """Keys that Prefect would drop; those of its own model are told by their alias too."""
    fields = model.model_fields
    return set(given) - set(fields) - {str(field.alias) for field in fields.values() if field.alias}


def nested_unknown_keys(deployment: dict[str, Any]) -> set[str]:
    places = {"work_pool": {"name", "work_queue_name", "job_variables"}, "concurrency_limit": CONCURRENCY}
    found = unknown_keys(deployment, DeploymentConfig)
    for place, known in places.items():
        found |= set(deployment.get(place) or ()) - known
    for schedule in deployment.get("schedules", ()):
        found |= set(schedule) - {"cron", "timezone", "active", "slug", "day_or"}
    return found


CONCURRENCY = {"limit", "collision_strategy", "grace_period_seconds"}


def test_there_is_a_deployment_of_everything_that_is_done_again_and_again() -> None:
    assert list(DEPLOYMENTS) == ["ingest", "search", "duplicates", "evaluate", "rebuild", "gc"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_prefect_knows_every_key(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert nested_unknown_keys(deployment) == set()
    DeploymentConfig.model_validate(deployment)
    assert deployment["work_pool"] == {"name": "imgrec"} and deployment["tags"] == ["imgrec"]
    assert not any(schedule["active"] for schedule in deployment.get("schedules", ()))


def test_nothing_is_pulled() -> None:
    assert PROJECT["pull"] == [], "of null Prefect makes a step into the folder that was deployed from"


def test_a_misplaced_key_is_told() -> None:
    wrong = {**DEPLOYMENTS["search"], "work_pool": {"name": "imgrec", "concurrency_limit": 1}, "schedule": {}}
    assert nested_unknown_keys(wrong) >= {"concurrency_limit"}
    assert nested_unknown_keys({**DEPLOYMENTS["search"], "cron": "0 3 * * *"}) == {"cron"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_form_says_what_each_parameter_is(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    schema = parameter_schema_from_entrypoint(deployment["entrypoint"])
    assert set(deployment["parameters"]) <= set(schema.properties) == set(flow.parameters.properties)
    assert not set(schema.required or ()) - set(deployment["parameters"])
    undescribed = [key for key, value in schema.properties.items() if not value.get("description")]
    assert undescribed == []
    flow.validate_parameters(deployment["parameters"])


@pytest.mark.parametrize("name", ["ingest", "rebuild", "gc"])
def test_ticks_of_what_writes_do_not_pile_up(name: str) -> None:
    assert DEPLOYMENTS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
