"""preprov task: on the store, and on a trace."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.model.agent import Usage
from preprov.model.resources import Resources
from preprov.model.time import epoch
from preprov.model.work import DagSpec, State, TaskSpec
from tests.unit.cli.test_commands import valid

TRACE = """process,workflow,submit,start,complete,realtime,memory,cpus,peak_rss,%cpu,status
ALIGN,etl,2024-03-01 10:00:00,2024-03-01 10:00:10,2024-03-01 10:20:10,20m,16 GB,8,3.1 GB,150%,COMPLETED
ALIGN,etl,2024-03-01 10:30:00,2024-03-01 10:30:10,2024-03-01 10:50:10,20m,16 GB,8,3.3 GB,140%,COMPLETED
ALIGN,etl,2024-03-01 11:00:00,2024-03-01 11:00:10,2024-03-01 11:20:10,20m,16 GB,8,3.0 GB,160%,COMPLETED
ALIGN,etl,2024-03-01 12:00:00,2024-03-01 12:00:10,2024-03-01 12:20:10,20m,16 GB,8,99 GB,150%,FAILED
PLOT,web,2024-03-01 12:00:00,2024-03-01 12:00:10,2024-03-01 12:20:10,20m,1 GB,1,0.5 GB,90%,COMPLETED
"""


CONFIG = """
[[pool]]
name = "local"
[[pool.group]]
name = "g"
[[pool.group.offering]]
type = "m7i.xlarge"
zone = "us-east-1a"
cpu = 4
memory = 16
usd_per_hour = 0.2
"""


@pytest.fixture
def served(preprov: Callable, tmp_path: Path) -> Callable:
    """Four runs of a task, an hour apart, each watched every five seconds."""
    (tmp_path / "preprov.toml").write_text(CONFIG)
    with open_app() as app:
        ports, now = app.ctx.ports, app.ctx.clock.now()
        spec = TaskSpec("load", ("true",), request=Resources(cpu=2, memory=4))
        for i in range(4):
            begun = now - timedelta(hours=5 - i)
            run = ports.work.submit(DagSpec("etl", (spec,)), "local", begun, f"etl-{i}")
            assert run is not None
            (task,) = ports.work.task_runs([run.run_id])
            ended = begun + timedelta(seconds=60)
            done = replace(task, state=State.SUCCEEDED, ready_at=begun, started_at=begun, ended_at=ended)
            ports.work.save_tasks([done])
            ports.work.save_run(run.run_id, State.SUCCEEDED, ended)
            usage = [Usage(epoch(begun) + s, cpu=0.5 + (s > 30), memory=0.5 + s / 60) for s in range(0, 61, 5)]
            ports.samples.append("local", [(task.claimant(0), u) for u in usage])
    return preprov


def test_what_was_served_here_is_sized_by_what_its_agents_saw(served: Callable, tmp_path: Path):
    document = valid(served("task", "sizing", "--pool", "local", "-o", "json").json)
    (need,) = document["tasks"]
    assert (need["dag"], need["task"], need["runs"], need["measured"]) == ("etl", "load", 4, 4)
    assert need["memory_p50"] == pytest.approx(1.5)
    assert 1.5 <= need["ask_memory"] < 2.0
    assert need["ask_cpu"] == pytest.approx(1.5)
    assert document["all"]["saved_share"] > 0
    told = served("task", "sizing", "--pool", "local", "--picture", "t.svg")
    assert "load" in told.out
    assert "would be free" in told.out
    assert (tmp_path / "t.svg").stat().st_size > 1000


def test_a_run_is_drawn_over_what_was_expected_of_it(served: Callable, tmp_path: Path):
    document = valid(served("task", "show", "etl-3/load", "--pool", "local", "--picture", "c.png", "-o", "json").json)
    assert (document["dag"], document["task"], document["runs"]) == ("etl", "load", 3)
    assert [c["resource"] for c in document["curves"]] == ["memory", "cpu"]
    assert max(document["actual"]["memory"]) == pytest.approx(1.5)
    assert document["actual"]["claimant"] == "etl-3/load#0"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    told = served("task", "show", "etl-3/load", "--pool", "local").out
    assert "etl/load: 3 watched run(s) before" in told
    assert sum("o" in line for line in told.splitlines() if " s  " in line) > 10
    phases = [line for line in told.splitlines() if line.startswith("then from")]
    assert len(phases) == 2
    assert phases[1].endswith("1.5 cores")


def test_whatever_else_was_watched_is_shown_too_and_what_never_was_is_absent(served: Callable, tmp_path: Path):
    with open_app() as app:
        ports = app.ctx.ports
        for i in range(4):
            (task,) = ports.work.task_runs([f"etl-{i}"])
            assert task.started_at is not None
            begun = epoch(task.started_at)
            usage = [Usage(begun + s, disk_io=5.0 if s < 30 else 80.0, gpu_memory=7.5) for s in range(1, 60, 5)]
            ports.samples.append("local", [(task.claimant(0), u) for u in usage])
    document = valid(served("task", "show", "etl-3/load", "--pool", "local", "--picture", "c.svg", "-o", "json").json)
    curves = {c["resource"]: c for c in document["curves"]}
    assert list(curves) == ["memory", "cpu", "disk_io", "gpu_memory"]
    assert (curves["disk_io"]["unit"], curves["gpu_memory"]["unit"]) == ("MB/s", "GiB")
    assert curves["disk_io"]["peak"][3] == pytest.approx(80, rel=0.02)
    assert [p["amount"] for p in curves["disk_io"]["phases"]] == pytest.approx([5, 80], rel=0.05)
    assert max(v for v in document["actual"]["more"]["disk_io"] if v is not None) == 80.0
    assert (document["machine"], document["factors"]) == ("m7i.xlarge", {})
    told = served("task", "show", "etl-3/load", "--pool", "local").out
    assert "\ndisk_io, MB/s" in told
    assert "network" not in told
    assert (tmp_path / "c.svg").stat().st_size > 1000


def test_how_likely_a_limit_is_too_low_is_told_of_the_request_and_of_any_other(served: Callable):
    document = valid(served("task", "show", "etl/load", "--pool", "local", "--limit", "1.0", "-o", "json").json)
    request, limit = document["out_of_memory"]
    assert (request["of"], request["limit_gib"]) == ("request", 4.0)
    assert (limit["of"], limit["limit_gib"]) == ("limit", 1.0)
    # four runs used 1.5 GiB each: of five one may be the first of its kind
    assert request["probability"] == pytest.approx(0.2)
    assert limit["probability"] == pytest.approx(0.8)
    document = valid(served("task", "show", "etl/load", "--pool", "local", "-o", "json").json)
    assert [one["of"] for one in document["out_of_memory"]] == ["request"]
    told = served("task", "show", "etl/load", "--pool", "local", "--limit", "1.0").out
    assert "with 4 GiB (what it asks for) it runs out of memory with probability 0.2" in told
    assert "with 1 GiB (--limit) it runs out of memory with probability 0.8" in told


def test_an_unknown_task_is_an_error_with_what_to_do(served: Callable):
    told = served("task", "show", "etl/none", "--pool", "local")
    assert told.code != 0
    assert "0 run(s) of etl/none were watched" in told.err
    assert "hint:" in told.err


def test_a_trace_of_elsewhere(preprov: Callable, tmp_path: Path):
    (tmp_path / "t.csv").write_text(TRACE)
    document = valid(preprov("task", "sizing", "--trace", "t.csv", "-o", "json").json)
    align, plot = document["tasks"]
    assert (align["task"], align["runs"], align["asked_memory"]) == ("ALIGN", 3, 16)
    assert 3.3 <= align["ask_memory"] < 4.5
    assert align["ask_cpu"] == pytest.approx(1.6)
    assert (plot["task"], plot["ask_memory"]) == ("PLOT", None)
    assert document["rejects"] == 1
    assert document["node"] == {"cpu": 16.0, "memory": 64.0, "usd_per_hour": None}
    assert document["failure_price"] == 2.0
    shares = {d["name"]: d["share_of_all"] for d in document["dags"]}
    # an hour of half a node and 20 min of 1/16 of one
    assert shares == pytest.approx({"etl": 24 / 25, "web": 1 / 25})
    (web,) = valid(preprov("task", "sizing", "--trace", "t.csv", "--dag", "web", "-o", "json").json)["dags"]
    assert web["share_of_all"] == pytest.approx(1 / 25), "of all, not of what is shown"
    told = preprov("task", "sizing", "--trace", "t.csv")
    assert "of all" in told.out
    assert "96%" in told.out
    assert "too few runs" in told.out
    assert "1 row(s) rejected" in told.out


def test_tenants_are_told_beside_dags_and_failures_have_a_price(preprov: Callable, tmp_path: Path):
    columns, *rows = TRACE.splitlines()
    tenants = ["tenant", "red", "red", "red", "red", "blue"]
    (tmp_path / "t.csv").write_text("\n".join(f"{row},{t}" for row, t in zip([columns, *rows], tenants, strict=True)))
    document = valid(preprov("task", "sizing", "--trace", "t.csv", "--failure-price", "50", "-o", "json").json)
    assert document["failure_price"] == 50.0
    assert {t["name"]: round(t["share_of_all"], 2) for t in document["tenants"]} == {"red": 0.96, "blue": 0.04}
    cheap = valid(preprov("task", "sizing", "--trace", "t.csv", "--failure-price", "0", "-o", "json").json)
    assert cheap["tasks"][0]["ask_memory"] <= document["tasks"][0]["ask_memory"]
    told = preprov("task", "sizing", "--trace", "t.csv").out
    assert told.index("By DAG") < told.index("By tenant") < told.index("blue", told.index("By tenant"))


def test_patches_are_printed_alone_and_one_of_another_name_is_refused(preprov: Callable, tmp_path: Path):
    (tmp_path / "t.csv").write_text(TRACE)
    told = preprov("task", "sizing", "--trace", "t.csv", "--patch", "slurm")
    lines = told.out.splitlines()
    assert lines[0] == "# etl ALIGN"
    assert lines[1].startswith("#SBATCH --mem=")
    assert lines[2] == "#SBATCH --cpus-per-task=2"
    assert len(lines) == 3
    wrong = preprov("task", "sizing", "--trace", "t.csv", "--patch", "nomad", "-o", "json")
    assert wrong.code != 0
    assert "airflow" in json.loads(wrong.out)["hint"]
    missing = preprov("task", "sizing", "--trace", "t.csv", "--dag", "nope")
    assert "the trace holds no workflow nope" in missing.err
    assert "etl, web" in missing.err
