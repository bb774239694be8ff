"""A real Airflow: its tasks run on warm nodes, its queue is read, and neither stands still for the other."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from preprov.store.database import open_store
from tests.integration.airflow.conftest import PROVIDER, Airflow, Preprov, Reader, end, wait_for

pytestmark = pytest.mark.timeout(900)


def test_a_dag_with_operator_and_sensor_runs_on_warm_nodes(airflow: Airflow, preprov: Preprov, reader: Reader) -> None:
    assert len(reader.tokens) == 1
    run = airflow.trigger("example_preprov")
    assert airflow.ended("example_preprov", run) == "success", airflow.log.read_text()[-3000:]
    held = preprov("reservation", "list", "--all")["reservations"]
    mine = [r for r in held if "example_preprov" in r["claimant"]]
    assert len(mine) == 2, "two instances were asked for"
    assert all(r["state"] == "released" and r["node_id"] for r in mine), "each was bound to a node, and given back"


@pytest.fixture(scope="module")
def read(airflow: Airflow, preprov: Preprov) -> str:
    """This Airflow is a source of preprov; the id of a run of `again`, which goes on beside the tests."""
    words = ("prod", "airflow", f"url={airflow.url}", "pool=batch", "requests_per_second=20", "history_days=1")
    added = preprov("source", "add", *words)
    assert all(f["state"] != "bad" for f in added["findings"])
    return airflow.trigger("again")


def all_told(preprov: Preprov, run: str) -> list[tuple[str, str]]:
    """(kind, state) of what was told of a DAG run."""
    with closing(open_store("", preprov.folder / "home")) as store:
        return [(e.kind, e.state or "") for _, e in store.ports().events.events(run_id=run) if not e.task_id]


def told(preprov: Preprov, run: str) -> list[tuple[str, str]]:
    """The same of what the listener told: that it was queued, the cluster policy tells."""
    return [(kind, state) for kind, state in all_told(preprov, run) if kind != "queued"]


@pytest.mark.usefixtures("read")
def test_what_is_queued_and_running_there_shows_here(airflow: Airflow, preprov: Preprov) -> None:
    runs = [airflow.trigger("busy") for _ in range(2)]
    wait_for("the first one runs", lambda: airflow.state("busy", runs[0]) == "running")
    (done,) = preprov("source", "sync")["passes"]
    assert done["new"] >= 2
    queue = preprov("queue", "analyze", "--pool", "batch")
    found = {r["run_id"]: r for r in queue["runs"]}
    for run in runs:
        shape = found[f"busy/{run}"]
        assert (shape["tasks"], shape["width"], shape["depth"]) == (4, 3, 2)
    assert max(p["demand"][-1] for p in queue["points"]) >= 3.0, "three tasks of one core follow the first"


def test_the_try_that_failed_before_the_one_that_did_not_is_history_too(
    airflow: Airflow, preprov: Preprov, read: str
) -> None:
    assert airflow.ended("again", read) == "success", airflow.log.read_text()[-3000:]
    preprov("source", "sync")
    with closing(open_store("", preprov.folder / "home")) as store:
        work = store.ports().work.work("batch")
    told = work.runs.index[work.runs["run_id"] == f"again/{read}"]  # by the listener too, without tasks
    tasks = work.tasks[work.tasks["run"].isin(told)]
    assert tasks[["task_id", "attempt"]].to_numpy().tolist() == [["twice@1", 1], ["twice", 2]]
    begun, ended = tasks["started_at"].tolist(), tasks["ended_at"].tolist()
    assert begun[0] < ended[0] < begun[1] < ended[1], "one after the other"
    assert tasks["runtime_s"].notna().tolist() == [False, True]
    assert all(tasks["node"])


@pytest.fixture
def unpaused(airflow: Airflow) -> Iterator[Any]:
    """Switches a DAG on; it rests again afterwards, so that its runs disturb nobody."""
    named: list[str] = []

    def switch(dag_id: str) -> None:
        named.append(dag_id)
        airflow.call("PATCH", f"dags/{dag_id}", json={"is_paused": False})

    yield switch
    for dag_id in named:
        airflow.call("PATCH", f"dags/{dag_id}", json={"is_paused": True})


@pytest.mark.usefixtures("read")
def test_runs_that_are_scheduled_there_show_here_with_what_they_will_need(
    airflow: Airflow, preprov: Preprov, unpaused: Any
) -> None:
    def analyzed() -> tuple[list[datetime], list[float], dict[str, Any]]:
        """Turns of the DAG, and the most cores that each of them may need, of those well ahead."""
        preprov("source", "sync")
        queue = preprov("queue", "analyze", "--pool", "batch")
        now = datetime.fromisoformat(queue["issued_at"])
        turns = [now.replace(minute=0, second=0, microsecond=0) + timedelta(minutes=10 * i) for i in range(13)]
        turns = [t for t in turns if now + timedelta(minutes=12) < t < now + timedelta(minutes=57)]
        points, step = queue["points"], timedelta(seconds=queue["step_seconds"])
        reach = [(t - step, t + timedelta(minutes=3)) for t in turns]
        most = [max(p["demand"][-1] for p in points if a < datetime.fromisoformat(p["ts"]) < b) for a, b in reach]
        return turns, most, queue

    _, most, before = analyzed()
    assert not {"often", "resting"} & {d["dag_id"] for d in before["due"]}, "a paused DAG is not due"
    assert max(most) < 4.0, "nor does anything else want four cores then"
    unpaused("often")

    def shown() -> Any:
        found = analyzed()
        return found if min(found[1]) >= 4.0 else None

    turns, most, queue = wait_for("four tasks of one core each, side by side, at each turn", shown)
    due = {datetime.fromisoformat(d["at"]) for d in queue["due"] if d["dag_id"] == "often"}
    assert due >= set(turns), "each turn within the hour"
    assert len(turns) >= 4
    assert all(d["probability"] > 0.5 for d in queue["due"] if d["dag_id"] == "often")
    assert "resting" not in {d["dag_id"] for d in queue["due"]}


def test_slots_of_an_airflow_pool_follow_what_is_warm(airflow: Airflow, preprov: Preprov) -> None:
    airflow.call("POST", "pools", json={"name": "warm", "slots": 100, "include_deferred": False})
    words = ("--pool", "batch", "--claimant", "slots", "--cpu", "1", "--for", "30m")
    held = preprov("reservation", "create", *words)["reservation"]

    def room() -> tuple[float, float]:
        """Cores and GiB that are free or ours, of the nodes that are ready."""
        headers = {"Authorization": f"Bearer {preprov.token}"}
        told = httpx.get(f"http://127.0.0.1:{preprov.port}/v1/capacity", headers=headers).raise_for_status().json()
        (pool,) = (p for p in told["pools"] if p["pool"] == "batch")
        cpu, memory = (pool["free"][kind] + pool["held_by_you"][kind] for kind in ("cpu", "memory"))
        return cpu, memory

    def followed() -> bool:
        before = room()
        run = airflow.trigger("preprov_follow_capacity")
        assert airflow.ended("preprov_follow_capacity", run) == "success", airflow.log.read_text()[-3000:]
        slots = int(airflow.call("GET", "pools/warm")["slots"])
        return room() == before and slots == max(int(min(before) + 1e-9), 1)

    wait_for("a node is warm", lambda: room()[0] >= 1)
    try:
        wait_for("the slots are as many as fit", followed)
    finally:
        preprov("reservation", "release", held["reservation_id"])
        airflow.call("PATCH", "dags/preprov_follow_capacity", json={"is_paused": True})


def test_a_token_that_expires_is_renewed(airflow: Airflow, reader: Reader) -> None:
    old = {"Authorization": reader.tokens[0]}
    wait_for("it expires", lambda: httpx.get(f"{airflow.url}/api/v2/dags", headers=old, timeout=240).status_code == 401)
    assert reader.read()
    assert len(set(reader.tokens)) == 2


def test_a_run_is_told_of_as_it_begins_and_ends(airflow: Airflow, preprov: Preprov) -> None:
    run = airflow.trigger("busy")
    wait_for("its beginning is told", lambda: ("started", "") in told(preprov, run))
    assert airflow.ended("busy", run) == "success", airflow.log.read_text()[-3000:]
    wait_for("its end is told", lambda: told(preprov, run) == [("started", ""), ("finished", "succeeded")])


def test_a_queued_run_is_told_of_once_and_no_event_is_refused(airflow: Airflow, preprov: Preprov) -> None:
    run = airflow.trigger("busy")
    wait_for("it is told of", lambda: ("queued", "") in all_told(preprov, run))
    assert airflow.ended("busy", run) == "success", airflow.log.read_text()[-3000:]
    wait_for("its end is told", lambda: ("finished", "succeeded") in told(preprov, run))
    assert all_told(preprov, run).count(("queued", "")) == 1
    assert "preprov refuses" not in airflow.log.read_text()


def test_mapped_tasks_have_a_reservation_each(airflow: Airflow, preprov: Preprov) -> None:
    run = airflow.trigger("spread")
    assert airflow.ended("spread", run) == "success", airflow.log.read_text()[-3000:]
    held = preprov("reservation", "list")["reservations"]
    mine = {r["claimant"]: r["reservation_id"] for r in held if r["claimant"].startswith("spread/")}
    assert sorted(mine) == [f"spread/{run}/reserve[{i}]" for i in range(2)]
    for name in mine.values():
        preprov("reservation", "release", name)


def test_dags_run_while_preprov_is_down_and_are_told_of_later(airflow: Airflow, preprov: Preprov) -> None:
    end(preprov.children[-1])
    run = airflow.trigger("example_preprov_one_task")
    assert airflow.ended("example_preprov_one_task", run) == "success", airflow.log.read_text()[-3000:]
    assert told(preprov, run) == [], "nobody was there to be told"
    preprov.serve()
    wait_for("it is told of", lambda: told(preprov, run) == [("started", ""), ("finished", "succeeded")])


def test_the_providers_own_tests_pass_in_airflows_environment(airflow_bin: Path) -> None:
    command = [str(airflow_bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=PROVIDER, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
