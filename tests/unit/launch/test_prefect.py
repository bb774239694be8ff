"""A work pool of Prefect is looked at and written to over its REST API, and nothing beside what was named."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from preprov.contracts import Service
from preprov.launch.prefect import (
    PrefectWorkPool,
    WorkerProgram,
    job_variable,
    limit_of_pool,
    limit_of_queue,
)
from preprov.model.errors import ConfigError, ConflictError, NotAuthorisedError, NotFoundError, PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.providing import served
from preprov.sim.clock import VirtualClock
from preprov.sourcing import running_on
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.store_examples import T0

POOL, HIGH, IMAGE = limit_of_pool("workers"), limit_of_queue("workers", "high"), job_variable("image")
TEMPLATE = {"variables": {"properties": {"image": {"type": "string", "default": "old"}, "cpu": {"type": "string"}}}}


@pytest.fixture
def prefect() -> FakePrefect:
    fake = FakePrefect(VirtualClock(T0), page=200)
    for name in ("workers", "others"):
        fake.pools[name] = {
            "name": name, "type": "process", "concurrency_limit": 5, "base_job_template": copy.deepcopy(TEMPLATE),
        }  # fmt: skip
        for queue in ("default", "high"):
            fake.queues.append({"name": queue, "work_pool_name": name, "concurrency_limit": None})
    return fake


def place(prefect: FakePrefect, *, transport: Any = None, key: str = "", **more: Any) -> PrefectWorkPool:
    service = Service("pf", "p", Resources(cpu=1), {POOL: 1.0, HIGH: 0.5}, fills={IMAGE: "new"}, workers=True)
    program = WorkerProgram(("python3", "-m", "prefect_preprov.worker"), **more)
    look_up = (lambda: key) if key else None
    return PrefectWorkPool(
        service, "http://pf/api", look_up, "workers", ("high",), program, transport=transport or prefect.transport()
    )


def test_what_is_set_what_holds_a_slot_and_who_runs_it(prefect: FakePrefect) -> None:
    mine = prefect.deploy("etl", "nightly", pool="workers", queue="high")
    plain = prefect.deploy("etl", "hourly", pool="workers")
    other = prefect.deploy("etl", "other", pool="others", queue="high")
    a = prefect.start_run("etl", deployment=mine, worker="w1")
    b = prefect.start_run("etl", deployment=plain, state="PENDING")
    for deployment, state in ((mine, "COMPLETED"), (mine, "SCHEDULED"), (other, "RUNNING")):
        prefect.start_run("etl", deployment=deployment, state=state)
    seen = place(prefect).look()
    assert seen.settings == {POOL: 5, HIGH: None, IMAGE: "old"}
    assert seen.held == {POOL: 2, HIGH: 1}
    assert seen.runs == {"w1": (a.id,)}
    assert b.id not in str(seen.runs)
    assert prefect.changed == []


def test_more_runs_than_a_page_are_all_counted(prefect: FakePrefect) -> None:
    mine = prefect.deploy("etl", "nightly", pool="workers")
    for _ in range(450):
        prefect.start_run("etl", deployment=mine)
    assert place(prefect).look().held[POOL] == 450


def test_what_is_named_is_written_with_nothing_beside_it(prefect: FakePrefect) -> None:
    pool = place(prefect)
    pool.write({POOL: 8})
    pool.write({HIGH: 4})
    assert prefect.changed == [
        ("/work_pools/workers", {"concurrency_limit": 8}),
        ("/work_pools/workers/queues/high", {"concurrency_limit": 4}),
    ]


def test_a_variable_without_a_default_is_without_one_again(prefect: FakePrefect) -> None:
    pool = place(prefect)
    pool.write({job_variable("cpu"): "2"})
    pool.write({job_variable("cpu"): None})
    assert prefect.pools["workers"]["base_job_template"] == TEMPLATE


def test_a_variable_that_the_work_pool_has_not_is_said_and_nothing_is_written(prefect: FakePrefect) -> None:
    with pytest.raises(PoolError, match="no job variable 'nodes'") as error:
        place(prefect).write({job_variable("nodes"): "x", POOL: 3})
    assert "it has cpu, image" in error.value.hint
    assert prefect.changed == []


def test_a_worker_is_a_command_on_the_node_and_never_sees_the_key(prefect: FakePrefect) -> None:
    node = Node("n/1", "p", "g", Offering("m", Resources(cpu=4)), Phase.READY, T0, T0)
    pool = place(prefect, key="s3cret", queues=("high",), fills=("node",), env={"A": "b"})
    task = pool.worker(node, "17.0", 4)
    assert task.claimant(0) == "preprov:serve:pf:n/1:17.0/worker#0"
    words = " ".join(task.spec.command)
    assert words.endswith(
        "start --pool workers --name preprov-pf-n-1-17.0 --limit 4 --poll 5 --queue high --fill node=n/1"
    )
    assert task.spec.env == {"PREFECT_API_URL": "http://pf/api", "PREPROV_POOL": "p", "A": "b"}
    assert "s3cret" not in str(task)
    leave = pool.farewell(node, "17.0")
    assert leave.claimant(0) == "preprov:serve:pf:n/1:17.0/leave#0"
    assert leave.spec.command[-3:] == ("leave", "--name", "preprov-pf-n-1-17.0")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.Response(401), NotAuthorisedError, "key"),
        (httpx.Response(403), NotAuthorisedError, "change work pools"),
        (httpx.Response(404), NotFoundError, "no such work pool"),
        (httpx.Response(422, text="concurrency_limit: wrong"), PoolError, "concurrency_limit: wrong"),
        (httpx.Response(503), ConflictError, "503"),
        (httpx.Response(429), ConflictError, "429"),
        (httpx.Response(200, text='{"concurrency_limit": 5, "base_'), ConflictError, "not JSON"),
        (httpx.Response(200, json=["not", "a", "pool"]), ConflictError, "not what was asked for"),
        (httpx.ReadTimeout("slow"), ConflictError, "ReadTimeout"),
        (httpx.ConnectError("refused"), ConflictError, "ConnectError"),
    ],
)
def test_whatever_goes_wrong_says_what_and_whether_to_come_back(
    prefect: FakePrefect, answer: Any, error: type[PoolError], says: str
) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(error) as found:
        place(prefect, transport=httpx.MockTransport(handle), key="s3cret").look()
    assert says in str(found.value)
    assert "s3cret" not in str(found.value)
    assert found.value.retryable is (error is ConflictError)


CONFIG = """
[[pool]]
name = "batch"
[pool.preload]
images = [{ uri = "images/etl.tar" }]
[[pool.group]]
name = "g"
provider = "PROVIDER"
offering = [{ type = "m", cpu = 4, memory = 16 }]

[[serve]]
name = "flows"
pool = "batch"
url = "http://127.0.0.1:4200/api"
work_pool = "workers"
run = { cpu = 1, memory = 2 }
queues = { high = 0.5 }
variables = { image = "image", where = "node" }
worker = { queues = ["high"] }
"""


def configured(text: str, tmp_path: Path) -> Any:
    from preprov import configfile

    (tmp_path / "preprov.toml").write_text(text)
    config = configfile.load(tmp_path / "preprov.toml")
    schedulers: Any = {"local": object(), "slurm": object()}
    return served(config.serve, config.pools(), schedulers, running_on([], VirtualClock(T0)))


def test_a_section_says_what_is_served(tmp_path: Path) -> None:
    (found,) = configured(CONFIG.replace("PROVIDER", "local"), tmp_path)["batch"]
    service = found.service
    assert service.shares == {POOL: 1.0, HIGH: 0.5}
    assert service.fills == {IMAGE: "images/etl.tar"}
    assert service.workers
    node = Node("n1", "batch", "g", Offering("m", Resources(cpu=4)), Phase.READY, T0, T0 + timedelta(0))
    assert found.worker(node, "1", 2).spec.command[-2:] == ("--fill", "where=n1")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('pool = "batch"\nurl', 'pool = "bach"\nurl', "there is no pool 'bach'"),
        ("http://", "", "must begin with http"),
        ("run = { cpu = 1, memory = 2 }", "run = { cpu = 0 }", "greater than 0"),
        ("run = { cpu = 1, memory = 2 }", "run = {}", "at least 1"),
        ("high = 0.5", "high = 1.5", "less than or equal to 1"),
        ('worker = { queues = ["high"] }', "", "add [serve.worker]"),
        ('images = [{ uri = "images/etl.tar" }]', "", "preloads none"),
        ("work_pool", "workpool", "did you mean 'work_pool'"),
        ("PROVIDER", "slurm", "nothing starts a worker on nodes of slurm"),
        ('kind = "', 'kind = "', None),
    ],
)
def test_what_is_wrong_in_a_section_is_said_plainly(old: str, new: str, says: str | None, tmp_path: Path) -> None:
    text = CONFIG.replace(old, new).replace("PROVIDER", "local")
    if says is None:
        text += CONFIG[CONFIG.index("[[serve]]") :].replace('"flows"', '"again"')
        says = "is served twice"
    with pytest.raises(ConfigError) as error:
        configured(text, tmp_path)
    assert says in str(error.value)
