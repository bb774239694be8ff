"""Traces of Nextflow in the store: whose runs they are, what their tasks used, and what is wrong with some rows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from preprov.app import open_app
from preprov.control.measuring import executions
from preprov.model.agent import Usage
from preprov.model.signature import names_of
from tests.unit.cli.conftest import Result

USUAL = (
    "task_id\thash\tnative_id\tname\tstatus\texit\tsubmit\tduration\trealtime\t%cpu\tpeak_rss\tpeak_vmem\trchar\t"
    "wchar\n"
)
READABLE = USUAL + "".join(
    f"{i}\tab/{i:06}\t{i}\tW:ALIGN (S{i})\tCOMPLETED\t0\t2026-03-01 10:0{i}:00.500\t3m 30s\t3m 20s\t{90 + i}.5%\t"
    f"{i}.5 GB\t9 GB\t2 MB\t10 KB\n"
    for i in range(1, 5)
)
BROKEN = """5\tab/000005\t5\tW:ALIGN (S5)\tFAILED\t137\t2026-03-01 10:05:00.000\t1m\t-\t-\t-\t-\t-\t-
6\tab/000006\t6\tW:SORT (S1)\tCOMPLETED\t0\tyesterday\t3s\t2s\t10%\t1 MB\t9 GB\t2 MB\t10 KB
7\tab/000007\t7\tW:SORT (S2)\tCOMPLETED\t0\t2026-03-01 10:09:00.000
8\tab/000008\t8\tW:SORT (S3)\tCACHED\t0\t2026-02-01 10:09:00.000\t3s\t2s\t10%\t1 MB\t9 GB\t2 MB\t10 KB
9\tab/000009\t9\tW:SORT (S4)\tCOMPLETED\t0\t2026-03-01 10:09:00.000\t3s\tlong\t10%\t1 MB\t9 GB\t2 MB\t10 KB
4\tab/000004\t4\tW:ALIGN (S4)\tCOMPLETED\t0\t2026-03-01 10:04:00.500\t3m 30s\t3m 20s\t94.5%\t4.5 GB\t9 GB\t2 MB\t10 KB
10\tab/000010\t10\tW:SORT (S5)\tCOMPLETED\t0\t2026-03-01 10:09:00.000\t3s\t2s\t10%\tmuch\t9 GB\t2 MB\t10 KB
"""
Call = Callable[..., Result]


def kept(pool: str = "lab") -> tuple[Any, list[dict[str, Any]], dict[str, tuple[Usage, ...]]]:
    """Executions of the pool, its tasks, and their samples."""
    with open_app() as app:
        since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        work = app.ctx.ports.work.work(pool)
        tasks = work.tasks.assign(run_id=work.runs["run_id"].to_numpy()[work.tasks["run"]]).to_dict("records")
        names = [f"{t['run_id']}/{t['task_id']}#0" for t in tasks]
        ran = executions(app.ctx, app.ctx.pool(pool), since=since, until=until)
        return ran.frame, tasks, dict(app.ctx.ports.samples.series(names))


def test_a_trace_as_nextflow_prints_it_is_kept_with_what_its_tasks_used(preprov: Call) -> None:
    Path("trace.txt").write_text(READABLE)
    told = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab", "--dag", "nf/rnaseq", "--tz", "Europe/Zurich",
                   "--tenant", "bio", "-o", "json")  # fmt: skip
    assert told.code == 0, told.err
    assert {k: told.json[k] for k in ("runs", "tasks", "samples", "rejects", "already")} == {
        "runs": 1, "tasks": 4, "samples": 4, "rejects": 0, "already": False,
    }  # fmt: skip
    assert told.json["imputed"] == {"cpu": 4}
    ran, tasks, samples = kept()
    assert {t["run_id"] for t in tasks} == {"nf.rnaseq@2026-03-01T09:01:00Z"}
    assert {names_of(t["signature"])[:3] for t in tasks} == {("bio", "nf/rnaseq", "W:ALIGN")}
    assert len({t["signature"] for t in tasks}) == 1, "the sample is no part of what a task is"
    first = ran.iloc[0]
    assert (first["tenant"], first["workflow"], first["process"]) == ("bio", "nf/rnaseq", "W:ALIGN")
    assert first["submitted"] == datetime(2026, 3, 1, 9, 1, 0, 500_000, tzinfo=UTC).timestamp()
    assert (first["ended"] - first["submitted"], first["runtime_s"]) == (210.0, 200.0)
    assert ran["peak"].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert ran["cpu"].tolist() == pytest.approx([0.915, 0.925, 0.935, 0.945])
    assert all(u.disk_io is None and u.read_ops is None for us in samples.values() for u in us), "never 0"


def test_rows_that_cannot_be_used_are_counted_and_kept_aside_with_their_lines(preprov: Call) -> None:
    Path("trace.txt").write_text(READABLE + BROKEN)
    told = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab", "-o", "json")
    assert told.code == 0, told.err
    assert (told.json["tasks"], told.json["rejects"]) == (5, 6)
    rejects = [json.loads(line) for line in Path(told.json["rejects_file"]).read_text().splitlines()]
    assert [(r["line"], r["reason"].split(":")[0]) for r in rejects] == [
        (6, "status FAILED"),
        (7, "no submit time"),
        (8, "7 fields instead of 14"),
        (9, "status CACHED"),
        (10, "no runtime"),
        (11, "the same task stands in a line before"),
    ]
    assert "1 tasks whose peak of memory was not measured" in told.json["notes"]
    ran, tasks, samples = kept()
    assert {t["run_id"] for t in tasks} == {"trace@2026-03-01T10:01:00Z"}
    (sort,) = ran[ran["process"] == "W:SORT"].to_dict("records")
    assert sort["peak"] != sort["peak"], "not known, and never 0"
    assert sort["cpu"] == pytest.approx(0.1)
    assert len(samples) == 5


def test_what_was_ingested_once_is_not_ingested_again(preprov: Call) -> None:
    Path("trace.txt").write_text(READABLE)
    assert preprov("ingest", "nextflow", "trace.txt", "--pool", "lab").code == 0
    before = kept()
    again = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab", "-o", "json")
    assert again.json["already"]
    Path("trace.txt").write_text(READABLE + BROKEN)
    more = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab", "-o", "json")
    assert (more.code, more.json["already"], more.json["runs"], more.json["tasks"]) == (0, False, 0, 0)
    after = kept()
    assert before[0].equals(after[0])
    assert repr(before[1:]) == repr(after[1:]), "as text: what is not known equals nothing"


def raw(file: Path, **columns: object) -> None:
    """Numbers as `-with-trace` with trace.raw = true gives them, of two workflows."""
    usual = {
        "workflow": ["b", "a", "a"], "task_id": [1, 1, 2], "process": ["X"] * 3, "status": ["COMPLETED"] * 3,
        "submit": [1.7e12, 1.6e12, 1.6e12 + 5e3], "start": [1.7e12 + 1e3] + [1.6e12 + 6e3] * 2,
        "complete": [1.7e12 + 11e3] + [1.6e12 + 16e3] * 2, "realtime": [10_000, 10_000, 5_000], "%cpu": [150.0] * 3,
        "cpus": [2, 2, 4], "memory": [2**31] * 3, "peak_rss": [2**30, 2**29, 0], "rchar": [9e9] * 3,
        "read_bytes": [3e7, 0, 5e6], "write_bytes": [1e7, 0, 5e6], "syscr": [100, 0, 50], "syscw": [10, 0, 5],
        "container": ["x:1"] * 3,
    }  # fmt: skip
    pd.DataFrame(usual | columns).to_parquet(file)


def test_a_table_of_several_traces_is_a_run_each(preprov: Call, tmp_path: Path) -> None:
    raw(tmp_path / "many.parquet")
    told = preprov("ingest", "nextflow", "many.parquet", "--pool", "lab", "--dag", "not-used", "-o", "json")
    assert (told.json["runs"], told.json["tasks"]) == (2, 3)
    ran, _, samples = kept()
    assert ran["workflow"].tolist() == ["a", "a", "b"]
    assert (ran["cpus"].tolist(), ran["memory"].tolist()) == ([2.0, 4.0, 2.0], [2.0] * 3)
    assert ran["code"].nunique() == 3, "another number of cores, another workflow: another task"
    (last,) = samples["b@2023-11-14T22:13:20Z/X[1]#0"]
    assert last == Usage(1.7e9 + 11, 1.5, 1.0, disk_io=4.0, read_ops=10.0, write_ops=1.0)
    (unmeasured,) = samples["a@2020-09-13T12:26:40Z/X[2]#0"]
    assert unmeasured.memory is None


def test_what_a_run_read_or_used_is_no_part_of_its_signature(preprov: Call, tmp_path: Path) -> None:
    raw(tmp_path / "one.parquet")
    raw(tmp_path / "two.parquet", rchar=[1.0] * 3, realtime=[1, 2, 3], peak_rss=[5, 6, 7], tag=["s", "t", "u"])
    for name in ("one", "two"):
        assert preprov("ingest", "nextflow", f"{name}.parquet", "--pool", name).code == 0
    assert [t["signature"] for t in kept("one")[1]] == [t["signature"] for t in kept("two")[1]]


def test_a_trace_of_nothing_and_a_zone_of_nowhere_are_told(preprov: Call) -> None:
    Path("trace.txt").write_text(USUAL)
    told = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab")
    assert (told.code, "no usable row" in told.err) == (1, True)
    told = preprov("ingest", "nextflow", "trace.txt", "--pool", "lab", "--tz", "Nowhere/Else")
    assert (told.code, "Nowhere/Else" in told.err) == (2, True)


def test_the_public_traces_are_kept_and_sized(preprov: Call, traces: Path) -> None:
    file = traces / "usage" / "nextflow_traces.parquet"
    told = preprov("ingest", "nextflow", file, "--pool", "lab", "-o", "json")
    assert (told.json["runs"], told.json["tasks"], told.json["rejects"]) == (4, 12_064, 0)
    assert preprov("ingest", "nextflow", file, "--pool", "lab", "-o", "json").json["already"]
    ran, tasks, samples = kept()
    assert (len(ran), len(samples)) == (12_064, 12_064)
    assert len({t["signature"] for t in tasks}) < 1000
    theirs = pd.read_parquet(file)
    peak = theirs["peak_rss"].where(theirs["peak_rss"] > 0).max() / 2**30
    assert ran["peak"].max() == pytest.approx(peak)
    sized = preprov("task", "sizing", "--pool", "lab", "--last", "5000d", "--dag", "rnaseq", "-o", "json")
    assert sized.code == 0, sized.err
    assert any(t["task"].endswith("STAR_ALIGN") or t["memory_p99"] for t in sized.json["tasks"])
