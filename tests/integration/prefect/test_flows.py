"""`preprov up` with a real Prefect server: deployments, scheduled runs, artifacts, one task per pool and flow."""

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.prefect.up import artifacts, deployments, run_of, serving, task_runs, until


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("up"), tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.mark.timeout(600)
def test_the_nightly_forecast_is_a_scheduled_deployment_and_a_run_of_it_leaves_its_artifacts(up):
    found = until(lambda: deployments(up).get("forecast-nightly"))
    assert [s["schedule"]["cron"] for s in found["schedules"] if s["active"]] == ["0 21 * * *"]
    run = run_of(up, "forecast-nightly")
    assert run["state_type"] == "COMPLETED", run["state"]
    kept = artifacts(up)
    assert kept["forecast-bi"]["type"] == "table"
    assert "p50" in kept["forecast-bi"]["data"]
    assert kept["forecast-fan-bi"]["type"] == "image"
    assert "data:image/png;base64," in kept["forecast-fan-bi"]["data"]
    assert kept["forecast-laptop-missing"]["type"] == "markdown", "a pool without history is said, not failed"


@pytest.mark.timeout(600)
def test_warm_pools_shows_one_provision_task_run_per_pool(up):
    run = run_of(up, "warm-pools")
    assert run["state_type"] == "COMPLETED", run["state"]
    tasks = task_runs(up, run)
    assert sorted(t["name"] for t in tasks) == ["provision bi", "provision laptop"]
    assert all(t["state_type"] == "COMPLETED" and "preprov" in t["tags"] for t in tasks)
    kept = {key: a["type"] for key, a in artifacts(up).items()}
    assert kept["plan-laptop"] == "table"
    assert kept["provision-laptop"] == "progress"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("deployment", ["analyze-queue", "adjust", "scale-down"])
def test_every_other_deployment_completes(up, deployment):
    assert run_of(up, deployment)["state_type"] == "COMPLETED"


@pytest.mark.timeout(900)
def test_retrain_says_who_is_champion_and_why(up):
    run = run_of(up, "retrain-weekly")
    assert run["state_type"] == "COMPLETED", run["state"]
    kept = artifacts(up)
    assert kept["retrain-bi"]["type"] == "markdown"
    assert "A challenger was put up" in kept["retrain-bi"]["data"]
    assert "Drift: none" in kept["retrain-bi"]["data"]
    assert "promoted" in kept["model-bi"]["data"] or "kept beside" in kept["model-bi"]["data"]
    assert kept["retrain-laptop-missing"]["type"] == "markdown", "a pool without history is said, not failed"
    assert kept["retrain"]["type"] == "table"
