"""A worker on a warm node: it takes runs until it is told to leave, and finishes those it has."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect_preprov import worker as program
from prefect_preprov.worker import fill, leave_file, main, serve, told_to_leave


class Worker:
    """Stands for Prefect's: each poll takes a run, and each run ends a few looks later."""

    name = "w"

    def __init__(self, *, fails: int = 0) -> None:
        properties = {"node": {"type": "string"}, "image": {"default": "old"}}
        self.work_pool = SimpleNamespace(name="workers", base_job_template={"variables": {"properties": properties}})
        self.polls, self.fails, self.inside = 0, fails, False
        self.left_with: int | None = None
        self.runs: list[int] = []

    @property
    def limiter(self) -> Any:
        self.runs = [r - 1 for r in self.runs if r > 1]
        return SimpleNamespace(borrowed_tokens=len(self.runs))

    async def __aenter__(self) -> "Worker":
        self.inside = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.inside, self.left_with = False, len(self.runs)

    async def get_and_submit_flow_runs(self) -> None:
        assert self.inside
        self.polls += 1
        if self.polls <= self.fails:
            raise httpx.ConnectError("away")
        self.runs.append(5)

    async def sync_with_backend(self) -> None:
        """Says that it lives."""


def served(worker: Worker, polls: int, **more: Any) -> list[str]:
    said: list[str] = []
    asyncio.run(serve(worker, lambda: worker.polls >= polls, poll_s=0.0, say=said.append, **more))
    return said


def test_it_takes_nothing_more_once_told_and_finishes_what_it_has() -> None:
    worker = Worker()
    said = served(worker, 3)
    assert worker.polls == 3
    assert worker.left_with == 0
    assert said[0] == "worker w takes runs of workers"
    assert said[-1] == "worker w has left"


def test_a_server_that_does_not_answer_is_asked_again() -> None:
    worker = Worker(fails=2)
    said = served(worker, 4)
    assert worker.polls == 4
    assert sum("does not answer" in line for line in said) == 2


def test_job_variables_that_the_pool_has_are_filled_and_others_are_not() -> None:
    worker = Worker()
    served(worker, 1, values={"node": "n1", "elsewhere": "x"})
    assert worker.work_pool.base_job_template["variables"]["properties"] == {
        "node": {"type": "string", "default": "n1"},
        "image": {"default": "old"},
    }
    fill({}, {"node": "n1"})  # a template without variables


def test_it_is_told_by_a_file_of_its_name_or_by_its_node_that_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREPROV_NODE_DIR", str(tmp_path))
    assert not told_to_leave("w")
    assert main(["leave", "--name", "w"]) == 0
    assert told_to_leave("w")
    assert not told_to_leave("the next one")
    (tmp_path / "draining").touch()
    assert told_to_leave("the next one")
    assert leave_file("a/b").parent == tmp_path


def test_it_wants_to_know_its_work_pool(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main([])
    assert "--pool is needed" in capsys.readouterr().err
