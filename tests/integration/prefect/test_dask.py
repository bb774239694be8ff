"""The flows with Dask as task runner: one task per pool, each in a process of a local cluster."""

from pathlib import Path

import pytest

from tests.integration.prefect.up import artifacts, run_of, serving, task_runs

pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")


@pytest.mark.timeout(900)
def test_many_pools_are_mapped_over_a_dask_cluster(tmp_path: Path, preprov_home: Path) -> None:
    pools = ("bi", "lab")
    env = {"PREPROV_TASK_RUNNER": "dask", "PREPROV_TASK_WORKERS": "2", "PREFECT_LOGGING_LEVEL": "INFO"}
    with serving(tmp_path, preprov_home, pools=pools, days=5, **env) as up:
        run = run_of(up, "forecast-nightly")
        assert run["state_type"] == "COMPLETED", run["state"]
        done = task_runs(up, run)
        assert sorted(t["name"] for t in done) == [f"forecast {p}" for p in sorted((*pools, "laptop"))]
        assert all(t["state_type"] == "COMPLETED" for t in done)
        assert {f"forecast-{p}" for p in pools} <= set(artifacts(up))
    assert "Dask cluster" in (preprov_home / "prefect" / "flows.log").read_text()
