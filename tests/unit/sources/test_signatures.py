"""Signatures of tasks that are read: paths that stay the same from run to run, and change with what is run."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import stamina

from preprov.contracts import LiveSource
from preprov.model.signature import levels
from preprov.model.time import from_epoch
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.slurm.commands import SlurmCommands
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic, exchanged
from preprov.sources.budget import RequestBudget
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.sources.prefect.runs import FLOW
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_airflow_world import FakeDag, FakeRun
from preprov.testing.fake_prefect import FakeFlowRun, FakePrefect
from preprov.testing.fake_slurm import FakeJob, FakeSlurm
from preprov.testing.live_source_contract import POOL, read
from preprov.testing.store_examples import T0

COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"
OTHER = "0d1d7fc32fdbc4d2ef9c2a1f4bb3a4c1a1b8d9e0"
DAY = 86_400.0


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


class Place:
    """A system that is read into a store."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)
        self.ports = memory_ports()
        self.reader: LiveSource

    def now(self) -> datetime:
        return self.clock.now()

    def signatures(self) -> dict[str, list[str]]:
        """Run -> the signatures of its tasks, by what they are called."""
        read(self, self.ports, self.reader)
        work = self.ports.work.work(POOL)
        out: dict[str, list[str]] = {}
        for run, signature in zip(work.tasks["run"], work.tasks["signature"], strict=True):
            out.setdefault(work.runs["run_id"][run], []).append(signature)
        return out


# --------------------------------------------------------------------------- Airflow


class Airflow(Place):
    """One DAG of a task and a mapped one."""

    def __init__(self, version: str = "v2", key: str = "prod") -> None:
        super().__init__()
        self.airflow = FakeAirflow(self.clock, version=version)  # type: ignore[arg-type]
        credential = exchanged("http://af", "me", lambda: "pw") if version == "v2" else basic("me", lambda: "pw")
        settings = AirflowSettings(key, "http://af", credential, requests_per_second=1e6, history_days=9)
        self.reader = AirflowSource(settings, self.clock, transport=self.airflow.transport())
        config = "{'KubernetesExecutor': {'image': 'price:3', 'request_cpu': '2', 'request_memory': '4Gi'}}"
        self.price: dict[str, Any] = {"executor_config": config, "operator": "BashOperator", "queue": "big"}
        self.deploy(COMMIT)

    def deploy(self, bundle: str | None, version: int = 1) -> None:
        tasks = [("price", ("sum",), dict(self.price)), ("sum", (), {})]
        self.airflow.add_dag(FakeDag("eod", tasks, bundle=bundle, version=version))

    def start(self, name: str, day: str = "2025-10-30") -> FakeRun:
        run = self.airflow.start_run("eod", name)
        run.tasks["price", -1].rendered = {"bash_command": f"price --as-of {day} --depth 3", "env": {"MODE": "full"}}
        return run

    def ran(self, name: str, day: str = "2025-10-30") -> str:
        run = self.start(name, day)
        self.clock.sleep(60.0)
        self.airflow.play(run)
        self.clock.sleep(600.0)
        return self.signatures()[f"eod/{name}"][0]


def test_golden_airflow() -> None:
    """A digest that changes ends all histories: raise `signature.VERSION` if that is meant."""
    assert Airflow().ran("r1") == "default/eod/price/e197d188e4c7835f"


def test_of_another_night_an_airflow_task_is_the_same_and_of_another_version_it_is_not() -> None:
    a = Airflow()
    first = a.ran("r1")
    assert a.ran("r2", "2025-10-31") == first
    a.price["executor_config"] = a.price["executor_config"].replace("4Gi", "64Gi")
    a.deploy(COMMIT)
    assert a.ran("r3") == first, "what it asks for is not what it is"
    a.deploy(OTHER, 2)
    second = a.ran("r4")
    assert second != first
    assert levels(second)[1:] == levels(first)[1:] == ("default/eod/price", "default/eod", "default", "")
    a.price["executor_config"] = a.price["executor_config"].replace("price:3", "price:4")
    a.deploy(OTHER, 2)
    assert a.ran("r5") not in (first, second)
    other = Airflow(key="staging")
    assert other.ran("r1") != first, "the DAG of another Airflow"


def test_an_airflow_task_that_waits_is_taken_for_what_it_last_ran() -> None:
    a = Airflow()
    run = a.start("r1")
    waiting = a.signatures()["eod/r1"][0]
    a.clock.sleep(60.0)
    a.airflow.play(run)
    a.clock.sleep(600.0)
    ran = a.signatures()["eod/r1"][0]
    assert waiting != ran, "what it renders is not told before it runs"
    a.start("r2")
    assert a.signatures()["eod/r2"][0] == ran
    a.deploy(OTHER, 2)
    a.start("r3")
    assert a.signatures()["eod/r3"][0] != ran, "what the last version ran is not what this one will"


def test_an_older_airflow_tells_no_version() -> None:
    a = Airflow("v1")
    first = a.ran("r1")
    a.deploy(OTHER, 2)
    assert a.ran("r2") == first


# --------------------------------------------------------------------------- Prefect


class Prefect(Place):
    """One deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.prefect = FakePrefect(self.clock)
        settings = PrefectSettings("prod", "http://pf/api", requests_per_second=1e6, history_days=2, patience_s=1e9)
        self.reader = PrefectSource(settings, self.clock, transport=self.prefect.transport())
        self.prefect.pools["k8s"] = {"name": "k8s", "type": "kubernetes"}
        self.deployment = self.prefect.deploy(
            "etl", "nightly", pool="k8s", queue="high", job_variables={"image": "etl:1", "env": {"MODE": "full"}}
        )
        self.flow_version = "5d2c1"

    def start(self, day: str = "2025-10-30", **more: Any) -> FakeFlowRun:
        told = {
            "parameters": {"day": day, "rows": 100_000},
            "tags": ("eod",),
            "flow_version": self.flow_version,
            "deployment_version": "v1",
        }
        return self.prefect.start_run("etl", "load", deployment=self.deployment, **told | more)

    def ran(self, **more: Any) -> list[str]:
        run = self.start(**more)
        self.clock.sleep(60.0)
        self.prefect.end_run(run)
        self.clock.sleep(60.0)
        return self.signatures()[run.id]


def test_golden_prefect() -> None:
    """A digest that changes ends all histories: raise `signature.VERSION` if that is meant."""
    assert Prefect().ran() == [
        "default/etl%2Fnightly/flow run/f84c01b4225b0063",
        "default/etl%2Fnightly/load/4b4fcddc90801ff8",
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"deployment_version": "v2"},
        {"flow_version": "77aa0"},
        {"tags": ("eod", "huge")},
        {"variables": {"image": "etl:2"}},
        {"variables": {"env": {"MODE": "delta"}}},
        {"parameters": {"day": "2025-10-30", "rows": 100_000_000}},
    ],
)
def test_of_another_night_a_prefect_flow_is_the_same_and_otherwise_it_is_not(other: dict[str, Any]) -> None:
    p = Prefect()
    first = p.ran()
    assert p.ran(day="2025-10-31", variables={"memory": "64Gi"}) == first
    changed = p.ran(**other)
    assert not set(changed) & set(first)
    assert (
        [levels(s)[1] for s in changed]
        == [levels(s)[1] for s in first]
        == [
            f"default/etl%2Fnightly/{FLOW}",
            "default/etl%2Fnightly/load",
        ]
    )


def test_a_prefect_flow_that_waits_is_taken_for_the_version_that_last_ran() -> None:
    p = Prefect()
    first = p.ran()
    waiting = p.start(state="SCHEDULED", start=None, expected=p.prefect.now() - 5.0)
    waiting.tasks.clear()
    assert p.signatures()[waiting.id] == first


# --------------------------------------------------------------------------- Slurm


class Slurm(Place):
    """One node."""

    def __init__(self, folder: Path, *, newer: bool = True) -> None:
        super().__init__()
        self.slurm = FakeSlurm(["cn1"], folder, newer=newer)
        reader = SlurmReader(SlurmCommands(self.slurm.run), RequestBudget(1000.0, self))
        self.reader = SlurmSource(SlurmSettings("cluster", history_s=DAY), reader, self, wall=self.slurm.now)

    def sleep(self, seconds: float) -> None:
        self.slurm.offset += seconds

    def now(self) -> datetime:
        return from_epoch(self.slurm.now())

    def submit(self, script: str = "align.sh s1 --threads 8", **more: Any) -> FakeJob:
        line = f"sbatch -d afterok:{self.slurm.next_id} -J align --mem=4G {script}"
        return self.slurm.add(**{"name": "align", "cpus": 8, "features": "avx512", "line": line, **more})

    def ran(self, script: str = "align.sh s1 --threads 8", **more: Any) -> str:
        job = self.submit(script, **more)
        self.sleep(60.0)
        self.slurm.end(job, "COMPLETED")
        self.sleep(60.0)
        return self.signatures()[str(job.job_id)][0]


def test_golden_slurm(tmp_path: Path) -> None:
    """A digest that changes ends all histories: raise `signature.VERSION` if that is meant."""
    assert Slurm(tmp_path).ran() == "lab/ana%2Falign/align/a3e08ab55d81c7ec"
    assert Slurm(tmp_path, newer=False).ran() == "lab/ana%2Falign/align/0764c87a86940120", (
        "22.05 does not tell the command"
    )


def test_a_slurm_job_is_what_it_runs_where_and_how_wide(tmp_path: Path) -> None:
    s = Slurm(tmp_path)
    first = s.ran()
    assert s.ran(memory=64_000, limit_min=600) == first, "what it asks for to be safe is not what it is"
    waiting = s.submit()
    assert s.signatures()[str(waiting.job_id)][0] == first, "the queue does not tell the command: as the last one"
    others = {
        s.ran("align2.sh s1 --threads 8"),
        s.ran("align.sh s1 --threads 64"),
        s.ran(cpus=64),
        s.ran(features="avx2"),
        s.ran(partition="long"),
    }
    assert len(others) == 5
    assert first not in others
    assert {levels(o)[1] for o in others} == {levels(first)[1]} == {"lab/ana%2Falign/align"}
