"""DAG tables: the two known shapes, others by mapping, and everything that can be wrong with a row."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprov.contracts import SourceBatch, WorkSource
from preprov.model.errors import ConfigError, SourceError
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable
from preprov.sources.tables import DagTableSource

START = datetime(2025, 9, 15, 0, 30, tzinfo=UTC)


def row(run: str, task: str, parents: str = "", **over: Any) -> dict[str, Any]:
    """A row of a table in our own words."""
    return {
        "run_id": run,
        "dag_id": "etl",
        "tenant": "finance",
        "schedule": "30 2 * * *",
        "trigger": "scheduled",
        "scheduled_for": START,
        "submit": START + timedelta(seconds=40),
        "task": task,
        "operator": "Load",
        "parents": parents,
        "cpu": 2.0,
        "memory_gib": 4.0,
        "runtime_s": 60.0,
    } | over


def alibaba(job: str, name: str, **over: Any) -> dict[str, Any]:
    """A row of the Alibaba table; its parents are the numbers in its name."""
    numbers = [p for p in name.split("_")[1:] if p.isdigit()]
    return {
        "name": name,
        "instances": 3.0,
        "status": "Terminated",
        "start_time": 1000,
        "end_time": 1100,
        "cpu_requested": 50.0,
        "mem_requested": 0.5,
        "job_id": job,
        "parents": "|".join(numbers),
    } | over


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_parquet(path)
    return path


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def read(source: WorkSource) -> tuple[WorkTable, SourceBatch]:
    """Everything, and the first batch, which has the rejects and the notes."""
    batches = list(source.read())
    return WorkTable.concat([b.work for b in batches]), batches[0]


def edges(work: WorkTable) -> set[tuple[str, str]]:
    name = work.tasks.task_id
    return {(name[p], name[c]) for p, c in zip(work.parents, work.children, strict=True)}


def reasons(batch: SourceBatch) -> list[tuple[int, str]]:
    return [(r.line, r.reason) for r in batch.rejects]


DIAMOND = [row("r1", "a"), row("r1", "b", "a", runtime_s=30), row("r1", "c", "a"), row("r1", "d", "b|c")]


@pytest.mark.parametrize("write", [parquet, csv])
def test_tasks_are_ready_when_their_last_parent_ended(tmp_path: Path, write: Any) -> None:
    source = DagTableSource(write(tmp_path / f"t.{write.__name__}", DIAMOND))
    work, _ = read(source)
    submit = epoch(START) + 40
    assert source.shape == "plain"
    assert edges(work) == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert work.tasks.ready_at.tolist() == [submit, submit + 60, submit + 60, submit + 120]
    assert work.runs.submit[0] == work.runs.due[0] == submit
    assert work.runs.scheduled_for[0] == epoch(START)
    assert (work.runs.tenant[0], work.runs.trigger[0], work.runs.timing[0]) == ("finance", "scheduled", "nominal")
    assert work.tasks.cpu.tolist() == [2] * 4
    assert work.tasks.memory.tolist() == [4] * 4
    assert work.tasks.signature.tolist() == [f"etl/Load/{t}" for t in "abcd"]


def test_runs_come_by_submit_whatever_the_order_of_rows(tmp_path: Path) -> None:
    late = START + timedelta(hours=1)
    rows = [row("late", "x", submit=late), row("r1", "b", "a"), row("late", "y", "x", submit=late), row("r1", "a")]
    work, _ = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.runs.run_id.tolist() == ["r1", "late"]
    assert work.tasks.task_id.tolist() == ["b", "a", "x", "y"]
    assert work.tasks.run.tolist() == [0, 0, 1, 1]
    assert edges(work) == {("a", "b"), ("x", "y")}


def test_parents_may_be_lists_and_name_a_task_twice(tmp_path: Path) -> None:
    rows = [row("r1", "a", []), row("r1", "b", ["a", "a", " a "]), row("r1", "c", None)]  # type: ignore[arg-type]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert edges(work) == {("a", "b")}
    assert len(work.parents) == 1
    assert not any("dropped" in n for n in batch.notes)


def test_what_cannot_be_used_is_kept_aside_with_line_reason_and_row(tmp_path: Path) -> None:
    rows = [
        row("r1", "a"),
        row("r1", "b", runtime_s=-1),
        row("", "c"),
        row("r1", ""),
        row("r1", "a"),
        row("r1", "d", cpu=-1),
        row("r1", "e", submit=None),
        row("r1", "f", "b|gone"),
        row("r1", "g", instances=0),
    ]
    for r in rows:
        r.setdefault("instances", 1)
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.tasks.task_id.tolist() == ["a", "f"]
    assert reasons(batch) == [
        (2, "negative runtime"),
        (3, "no run_id"),
        (4, "no task"),
        (5, "task stands twice in its run"),
        (6, "cpu is below 0"),
        (7, "no submit time"),
        (9, "instances is below 1"),
    ]
    assert json.loads(batch.rejects[0].raw)["runtime_s"] == -1
    assert "1 parents that are no task of their run were dropped" in batch.notes
    assert "1 parents that point to a rejected row were dropped" in batch.notes


def test_csv_rejects_carry_their_line(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", [row("r1", "a"), row("r1", "b"), row("r1", "c", cpu="two"), row("r1", "d")])
    lines = path.read_text().splitlines()
    lines[2] += ",too,many"
    lines.append(lines[-1].replace("2025-09-15 00:30:40", "yesterday").replace(",d,", ",e,"))
    path.write_text("\n".join(lines) + "\n")
    work, batch = read(DagTableSource(path))
    assert work.tasks.task_id.tolist() == ["a", "d"]
    assert reasons(batch) == [(3, "15 fields instead of 13"), (4, "cpu is not a number"), (6, "submit is not a time")]
    assert batch.rejects[0].raw.endswith(",too,many")


def test_a_run_with_a_circle_is_rejected_whole_and_others_stay(tmp_path: Path) -> None:
    rows = [
        row("bad", "a", "c"),
        row("bad", "b", "a"),
        row("good", "a"),
        row("bad", "c", "b"),
        row("bad", "free"),
        row("self", "a", "a"),
        row("good", "b", "a"),
    ]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.runs.run_id.tolist() == ["good"]
    assert [line for line, _ in reasons(batch)] == [1, 2, 4, 5, 6]
    assert all("circle" in why for _, why in reasons(batch))
    assert "2 runs with a circle of dependencies were rejected" in batch.notes


def test_a_missing_amount_takes_the_median_and_is_counted(tmp_path: Path) -> None:
    rows = [
        row("r1", "a", cpu=1),
        row("r1", "b", cpu=None),
        row("r1", "c", cpu=5),
        row("r1", "d", cpu=3, memory_gib=None),
    ]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.tasks.cpu.tolist() == [1, 3, 5, 3]
    assert work.tasks.memory.tolist() == [4, 4, 4, 4]
    assert batch.imputed == {"cpu": 1, "memory": 1}


def test_a_missing_runtime_is_a_task_that_has_not_ended(tmp_path: Path) -> None:
    rows = [row("r1", "a", runtime_s=None), row("r1", "b", "a"), row("r1", "c")]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert np.isnan(work.tasks.runtime_s).tolist() == [True, False, False]
    assert np.isnan(work.tasks.ready_at).tolist() == [False, True, False]
    assert any("had not ended" in n for n in batch.notes)


def test_start_and_end_do_instead_of_a_runtime(tmp_path: Path) -> None:
    rows = [row("r1", t, start=START, end=START + timedelta(seconds=s)) for t, s in (("a", 5), ("b", -5))]
    for r in rows:
        del r["runtime_s"]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.tasks.runtime_s.tolist() == [5]
    assert work.tasks.started_at.tolist() == [epoch(START)]
    assert reasons(batch) == [(2, "ends before it starts")]


def test_optional_columns(tmp_path: Path) -> None:
    more = {"instances": 7, "gpu": 1, "gang": True, "priority": 5, "hint_s": 99, "land_by": START, "trigger": "asset"}
    work, _ = read(DagTableSource(parquet(tmp_path / "t.parquet", [row("r1", "a", **more)])))
    task, run = work.tasks.iloc[0], work.runs.iloc[0]
    assert (task.instances, task.gpu, task.gang, task.hint_s) == (7, 1, True, 99)
    assert (run.priority, run.land_by, run.trigger) == (5, epoch(START), "dataset")


def test_columns_by_other_names_are_mapped(tmp_path: Path) -> None:
    frame = pd.DataFrame(DIAMOND).rename(columns={"task": "step", "cpu": "vcores", "submit": "asked"})
    frame["asked"] = [1000.0] * 4
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SourceError, match="lacks column task, cpu, submit"):
        DagTableSource(tmp_path / "t.csv")
    mapping = {"task": "step", "cpu": "vcores", "submit": "asked"}
    source = DagTableSource(tmp_path / "t.csv", mapping, epoch=START)
    work, _ = read(source)
    assert work.runs.submit[0] == epoch(START) + 1000
    assert edges(work) == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert source.digest != DagTableSource(tmp_path / "t.csv", mapping).digest


@pytest.mark.parametrize("mapping", [{"tsak": "step"}, {"task": "absent"}])
def test_a_wrong_mapping_is_refused(tmp_path: Path, mapping: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--map"):
        DagTableSource(parquet(tmp_path / "t.parquet", DIAMOND), mapping)


def test_a_lacking_column_is_named_with_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame(DIAMOND).drop(columns="parents").to_parquet(path)
    with pytest.raises(SourceError, match="lacks column parents") as e:
        DagTableSource(path)
    assert "memory_gib" in e.value.what
    assert "--map parents=" in e.value.hint


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_what_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0\1\2 nothing of the kind")
    with pytest.raises(SourceError):
        list(DagTableSource(tmp_path / name).read())


def test_a_truncated_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", DIAMOND)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="no readable Parquet"):
        DagTableSource(path)


def test_no_usable_row_is_an_error_that_says_why(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", [row("r1", "a", runtime_s=-1)])
    with pytest.raises(SourceError, match=r"no usable row \(1 rejected, most for: negative runtime"):
        list(DagTableSource(path).read())


# --------------------------------------------------------------------------- schedules and their zone


def nights(zone: str, crons: dict[str, tuple[int, int]], days: int = 60) -> list[dict[str, Any]]:
    """Runs of crons at hour:minute on the wall clock of the zone, over a change of clocks."""
    rows = []
    for dag, (hour, minute) in crons.items():
        for d in range(days):
            at = datetime(2025, 9, 15, hour, minute, tzinfo=ZoneInfo(zone)) + timedelta(days=d)
            utc = at.astimezone(UTC)
            rows.append(
                row(f"{dag}/{d}", "a", dag_id=dag, schedule=f"{minute} {hour} * * *", scheduled_for=utc, submit=utc)
            )
    return rows


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/New_York", "Asia/Tokyo", "UTC", "Asia/Kolkata"])
def test_the_zone_is_the_one_in_which_the_crons_have_their_turns(tmp_path: Path, zone: str) -> None:
    source = DagTableSource(parquet(tmp_path / "t.parquet", nights(zone, {"x": (3, 30), "y": (22, 0)})))
    assert source.zone == zone
    _, batch = read(source)
    assert {(s.dag_id, s.cron, s.zone, s.tenant) for s in batch.schedules} == {
        ("x", "30 3 * * *", zone, "finance"),
        ("y", "0 22 * * *", zone, "finance"),
    }
    assert any(f"zone {zone}: 100%" in n for n in batch.notes)


def test_a_likely_zone_wins_where_the_crons_cannot_tell(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", nights("Europe/Paris", {"x": (3, 30)}))
    assert DagTableSource(path, likely=["Europe/Madrid"]).zone == "Europe/Madrid"
    assert DagTableSource(path, likely=["Asia/Tokyo"]).zone == "Europe/Zurich"  # does not fit


def test_hourly_crons_tell_no_zone_and_the_note_says_so(tmp_path: Path) -> None:
    rows = nights("Europe/Zurich", {"x": (3, 10)}, days=5)
    for r in rows:
        r["schedule"] = "10 * * * *"
    source = DagTableSource(parquet(tmp_path / "t.parquet", rows))
    assert source.zone == "UTC"
    assert any("give --tz" in n for n in read(source)[1].notes)


def test_an_option_a_column_and_metadata_come_before_inference(tmp_path: Path) -> None:
    rows = nights("Europe/Zurich", {"x": (3, 30)})
    path = parquet(tmp_path / "t.parquet", rows)
    assert DagTableSource(path, zone="US/Pacific").zone == "America/Los_Angeles"
    table = pq.read_table(path).replace_schema_metadata({"timezone": "Asia/Tokyo"})
    pq.write_table(table, tmp_path / "m.parquet")
    assert DagTableSource(tmp_path / "m.parquet").zone == "Asia/Tokyo"
    column = table.schema.get_field_index("submit")
    own = table.set_column(column, "submit", table["submit"].cast(pa.timestamp("us", tz="Europe/Berlin")))
    pq.write_table(own.replace_schema_metadata(None), tmp_path / "o.parquet")
    assert DagTableSource(tmp_path / "o.parquet").zone == "Europe/Berlin"
    said = [r | {"zone": "Asia/Dubai"} for r in rows]
    source = DagTableSource(parquet(tmp_path / "c.parquet", said))
    assert source.zone == "Asia/Dubai"
    assert read(source)[1].schedules[0].zone == "Asia/Dubai"
    with pytest.raises(ConfigError, match="Mars"):
        DagTableSource(path, zone="Mars/Olympus")


def test_crons_that_fit_nowhere(tmp_path: Path) -> None:
    rows = nights("UTC", {"x": (3, 30)}, days=10)
    for r in rows:
        r["schedule"] = "17 4 1 1 *"
    source = DagTableSource(parquet(tmp_path / "t.parquet", rows))
    assert source.zone == "UTC"
    assert any("no zone fits" in n for n in read(source)[1].notes)


def test_times_without_a_zone_are_in_the_zone_given(tmp_path: Path) -> None:
    wall = ["2025-10-26T02:30:00", "2025-10-26T02:30:00Z", "2025-07-01T02:00:00+02:00"]
    rows = [row(f"r{i}", "a", submit=w, scheduled_for="") for i, w in enumerate(wall)]
    work, _ = read(DagTableSource(csv(tmp_path / "t.csv", rows), zone="Europe/Zurich"))
    by_run = dict(zip(work.runs.run_id, work.runs.submit, strict=True))
    assert by_run == {
        "r0": epoch(datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),  # the first of the two
        "r1": epoch(datetime(2025, 10, 26, 2, 30, tzinfo=UTC)),
        "r2": epoch(datetime(2025, 7, 1, 0, 0, tzinfo=UTC)),
    }
    naive = [row("r0", "a", submit=pd.Timestamp("2025-07-01T02:00:00"))]
    work, _ = read(DagTableSource(parquet(tmp_path / "t.parquet", naive), zone="Europe/Zurich"))
    assert work.runs.submit[0] == epoch(datetime(2025, 7, 1, 0, 0, tzinfo=UTC))


# --------------------------------------------------------------------------- Alibaba


def test_alibaba_demand_is_instances_of_cores_and_shares(tmp_path: Path) -> None:
    rows = [
        alibaba("j1", "M1"),
        alibaba("j1", "R2_1", start_time=1100, end_time=1250),
        alibaba("j1", "J3_1_2", start_time=950),
    ]
    source = DagTableSource(parquet(tmp_path / "t.parquet", rows))
    work, _ = read(source)
    zero = epoch(datetime(2018, 1, 1, tzinfo=UTC))
    assert (source.shape, source.zone) == ("alibaba", "UTC")
    assert work.tasks.instances.tolist() == [3] * 3
    assert not work.tasks.gang.any()
    assert work.tasks.cpu.tolist() == [0.5] * 3
    assert work.tasks.memory.tolist() == pytest.approx([2.56] * 3)
    assert work.runs.submit.tolist() == [zero + 950]
    assert edges(work) == {("M1", "R2_1"), ("M1", "J3_1_2"), ("R2_1", "J3_1_2")}
    assert work.tasks.runtime_s.tolist() == [100, 150, 150]
    assert work.tasks.ready_at.tolist() == [zero + 950, zero + 1050, zero + 1200]
    assert np.isnan(work.tasks.started_at).all()


def test_alibaba_unknown_starts_ends_and_amounts(tmp_path: Path) -> None:
    rows = [
        alibaba("j1", "M1", start_time=0, end_time=0, instances=None),
        alibaba("j1", "R2_1", instances=None, cpu_requested=None, mem_requested=None),
        alibaba("j1", "R3_2", end_time=0),
        alibaba("j1", "R4_3"),
        alibaba("j1", "R5_9"),
        alibaba("j2", "M1", end_time=900),
        alibaba("j3", "M1", instances=5, cpu_requested=100, mem_requested=1),
    ]
    work, batch = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    assert work.runs.run_id.tolist() == ["j1", "j3"]
    assert reasons(batch) == [(1, "start_time is not known"), (6, "ends before it starts")]
    assert batch.imputed == {"instances": 1, "cpu": 1, "memory": 1}
    assert (work.tasks.instances[0], work.tasks.cpu[0], work.tasks.memory[0]) == (3, 0.5, pytest.approx(2.56))
    running = work.tasks.task_id == "R3_2"
    assert np.isnan(work.tasks.runtime_s[running]).all()
    assert not np.isnan(work.tasks.ready_at[running]).any()
    assert np.isnan(work.tasks.ready_at[work.tasks.task_id == "R4_3"]).all()
    assert edges(work) == {("R2_1", "R3_2"), ("R3_2", "R4_3")}
    assert "1 parents that are no task of their run were dropped" in batch.notes
    assert "1 parents that point to a rejected row were dropped" in batch.notes
    assert any(n.startswith("1 tasks had not ended") for n in batch.notes)


def test_alibaba_jobs_of_one_shape_are_one_dag(tmp_path: Path) -> None:
    rows = [alibaba(j, n) for j in ("j1", "j2") for n in ("M1", "R2_1")] + [alibaba("j3", "M1")]
    rows[2]["instances"] = 9
    work, _ = read(DagTableSource(parquet(tmp_path / "t.parquet", rows)))
    dags = dict(zip(work.runs.run_id, work.runs.dag_id, strict=True))
    assert dags["j1"] == dags["j2"] != dags["j3"]
    assert dags["j1"].startswith("shape2-")
    assert work.tasks.operator.tolist() == ["M", "R", "M", "R", "M"]
    assert work.tasks.signature[0] == f"{dags['j1']}/M1/0.5c/2.56g/x2"
    assert work.tasks.signature[2] == f"{dags['j1']}/M1/0.5c/2.56g/x8"


def test_alibaba_names_drawn_by_lot_do_not_make_shapes(tmp_path: Path) -> None:
    rows = [alibaba("j1", "task_Nzg3ODA=", parents=""), alibaba("j2", "task_MTIz", parents=""), alibaba("j2", "M1")]
    work, _ = read(DagTableSource(parquet(tmp_path / "t.parquet", [*rows, alibaba("j3", "task_x", parents="")])))
    dags = dict(zip(work.runs.run_id, work.runs.dag_id, strict=True))
    assert dags["j1"] == dags["j3"] != dags["j2"]
    assert work.tasks.operator.tolist() == ["task", "task", "M", "task"]
    assert work.tasks.task_id[0] == "task_Nzg3ODA="
    assert not len(work.parents)


def test_alibaba_epoch(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", [alibaba("j1", "M1_Stg8")])
    work, _ = read(DagTableSource(path, epoch=START))
    assert work.runs.submit[0] == epoch(START) + 1000


# --------------------------------------------------------------------------- batches and real tables


def test_batches_hold_whole_runs_and_together_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        row(f"r{i:02}", t, p, submit=START + timedelta(minutes=i))
        for i in range(20)
        for t, p in (("a", ""), ("b", "a"))
    ]
    source = DagTableSource(parquet(tmp_path / "t.parquet", rows))
    whole, first = read(source)
    monkeypatch.setattr("preprov.sources.building.BATCH_TASKS", 6)
    told: list[float] = []
    batches = list(source.read(lambda share, text: told.append(share)))
    assert [len(b.work) for b in batches] == [6] * 6 + [4]
    assert told == sorted(told)
    assert told[-1] == 1.0
    joined = WorkTable.concat([b.work for b in batches])
    assert joined.tasks.equals(whole.tasks)
    assert joined.runs.equals(whole.runs)
    assert edges(joined) == edges(whole)
    assert [b.schedules for b in batches[1:]] == [()] * 6
    assert first.schedules == batches[0].schedules


@pytest.mark.slow
def test_real_nights(traces: Path) -> None:
    source = DagTableSource(traces / "dags" / "nights.parquet")
    batches = list(source.read())
    work = WorkTable.concat([b.work for b in batches])
    assert source.zone == "Europe/Zurich"
    assert (len(work.runs), len(work)) == (4_979, 542_370)
    assert not any(b.rejects for b in batches)
    assert len(batches[0].schedules) == 31
    assert (work.tasks.cpu * work.tasks.runtime_s).sum() / 3600 / 56 == pytest.approx(506, abs=1)
    assert (work.runs.trigger == "scheduled").mean() == pytest.approx(0.89, abs=0.01)
    assert work.runs.run_id[0] == "genomics.bacass.hourly27/24"
    assert work.tasks.ready_at.notna().all()
    roots = ~np.isin(np.arange(len(work)), work.children)
    due = work.runs.due.to_numpy()[work.tasks.run]
    assert (work.tasks.ready_at.to_numpy()[roots] == due[roots]).all()


@pytest.mark.slow
def test_real_alibaba(traces: Path) -> None:
    work, batch = read(DagTableSource(traces / "dags" / "alibaba2018_dag_tasks.parquet"))
    assert (len(work.runs), len(work), len(batch.rejects)) == (16_808, 65_886, 86)
    assert {r.reason for r in batch.rejects} == {"start_time is not known"}
    assert int(work.tasks.runtime_s.isna().sum()) == 19
    cores = work.tasks.cpu * work.tasks.instances
    assert (cores * work.tasks.runtime_s).sum() / 3600 == pytest.approx(354_213.5, abs=1)
    assert work.tasks.cpu.median() == 1.0


def test_a_truncated_csv_archive(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    pd.DataFrame([row(f"r{i}", "a") for i in range(3000)]).to_csv(path, index=False)
    assert len(read(DagTableSource(path))[0]) == 3000
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SourceError, match="readable"):
        list(DagTableSource(path).read())


def test_a_table_without_rows(tmp_path: Path) -> None:
    for frame in (pd.DataFrame(DIAMOND), pd.DataFrame([alibaba("j", "M1")])):
        frame.iloc[:0].to_parquet(tmp_path / "t.parquet")
        with pytest.raises(SourceError, match="no usable row"):
            list(DagTableSource(tmp_path / "t.parquet").read())


def test_columns_of_any_type(tmp_path: Path) -> None:
    """Text may be categories, numbers may be text or integers, a whole column may be empty, rows may come in groups."""
    frame = pd.DataFrame(DIAMOND)
    frame["task"] = frame["task"].astype("category")
    frame["cpu"] = frame["cpu"].astype(str)
    frame["runtime_s"] = frame["runtime_s"].astype("int32")
    frame["tenant"] = None
    frame["instances"] = None
    frame["memory_gib"] = None
    frame["run_id"] = 7
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=2)
    work, batch = read(DagTableSource(tmp_path / "t.parquet"))
    assert work.runs.run_id.tolist() == ["7"]
    assert work.runs.tenant.tolist() == ["default"]
    assert (work.tasks.cpu.tolist(), work.tasks.memory.tolist()) == ([2] * 4, [0] * 4)
    assert work.tasks.instances.tolist() == [1] * 4
    assert batch.imputed == {"memory": 4, "instances": 4}
    assert edges(work) == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(SourceError, match="readable"):
        DagTableSource(tmp_path / "t.csv")
