"""Which task runner maps the pools of a flow is a setting."""

import sys

import pytest

from preprov.model.errors import ConfigError
from preprov.settings import Settings

pytestmark = pytest.mark.slow  # Prefect takes seconds to load


def test_threads_unless_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.common import task_runner

    assert type(task_runner()).__name__ == "ThreadPoolTaskRunner"
    monkeypatch.setenv("PREPROV_TASK_RUNNER", "carrier-pigeon")
    with pytest.raises(ConfigError, match="PREPROV_TASK_RUNNER"):
        Settings.load()


def test_dask_by_name_and_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
    from flows.common import task_runner

    monkeypatch.setenv("PREPROV_TASK_RUNNER", "dask")
    monkeypatch.setenv("PREPROV_TASK_WORKERS", "3")
    runner = task_runner()
    assert type(runner).__name__ == "DaskTaskRunner"
    assert runner.cluster_kwargs["n_workers"] == 3
    monkeypatch.setenv("PREPROV_DASK_ADDRESS", "tcp://scheduler:8786")
    assert task_runner().address == "tcp://scheduler:8786"


def test_dask_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.common import task_runner

    monkeypatch.setenv("PREPROV_TASK_RUNNER", "dask")
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(ConfigError, match="not installed") as error:
        task_runner()
    assert "preprov[dask]" in error.value.hint
