"""Workflow instances: units, what a missing memory takes, when a run is submitted, and broken files."""

import io
import json
import lzma
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprov.contracts import SourceBatch, WorkSource
from preprov.model.errors import SourceError
from preprov.model.time import epoch
from preprov.model.worktable import WorkTable
from preprov.sources.wfformat import WfFormatSource

GIB = 1024**3
WHEN = datetime(2023, 3, 21, 21, 10, 20, tzinfo=UTC)


def workflow(*tasks: dict[str, Any], executed: str | None = "2023-03-21T11:10:20-10:00", **over: Any) -> dict[str, Any]:
    """A WfFormat 1.5 instance; of each task: id, parents, children, and what is known of its execution."""
    keys = ("name", "parents", "children")
    return {
        "name": "whatever",
        "schemaVersion": "1.5",
        "createdAt": "2024-01-01T00:00:00",
        "workflow": {
            "specification": {
                "tasks": [{"name": t["id"], "id": t["id"], **{k: t[k] for k in keys if k in t}} for t in tasks],
            },
            "execution": {
                "executedAt": executed,
                "tasks": [{k: v for k, v in t.items() if k not in keys} for t in tasks if "runtimeInSeconds" in t],
            },
        },
    } | over


def task(name: str, runtime: float = 10, **over: Any) -> dict[str, Any]:
    return {"id": name, "runtimeInSeconds": runtime} | over


def save(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))
    return folder


def read(source: WorkSource) -> tuple[WorkTable, list[SourceBatch]]:
    batches = list(source.read())
    return WorkTable.concat([b.work for b in batches]), batches


def test_a_file_is_a_run(tmp_path: Path) -> None:
    flow = workflow(
        task("split_ID0000001", 5, children=["count_2"]),
        task("count_2", 7, parents=["split_ID0000001"], coreCount=4, memoryInBytes=2 * GIB, avgCPU=20),
        task("count_3", 1, parents=["split_ID0000001"], avgCPU=230, memoryInBytes=0),
    )
    work, batches = read(WfFormatSource(save(tmp_path, blast_large_001=flow) / "blast-large-001.json"))
    run, tasks = work.runs.iloc[0], work.tasks
    assert (run.run_id, run.dag_id, run.submit) == ("blast-large-001", "blast-large", epoch(WHEN))
    assert tasks.cpu.tolist() == [1, 4, 3]
    assert tasks.memory.tolist() == [2, 2, 2]  # the application's median
    assert batches[0].imputed == {"memory": 2}
    assert (tasks.ready_at - run.submit).tolist() == [0, 5, 5]
    assert tasks.signature.tolist() == ["blast/split", "blast/count", "blast/count"]
    assert sorted(zip(work.parents.tolist(), work.children.tolist(), strict=True)) == [(0, 1), (0, 2)]


def test_memory_is_the_median_of_the_application_over_all_files_else_two_gib_a_core(tmp_path: Path) -> None:
    folder = save(
        tmp_path,
        a_1=workflow(task("x", memoryInBytes=GIB), task("y", memoryInBytes=3 * GIB)),
        a_2=workflow(task("x")),
        b_1=workflow(task("x", coreCount=3)),
    )
    work, batches = read(WfFormatSource(folder))
    assert work.runs.run_id.tolist() == ["a-1", "a-2", "b-1"]
    assert work.tasks.memory.tolist() == [1, 3, 2, 6]
    assert batches[0].imputed == {"memory": 2}


@pytest.mark.parametrize(("percent", "cores"), [(0, 1), (99, 1), (101, 1), (125, 1), (126, 2), (190, 2), (None, 1)])
def test_cores_from_average_use(tmp_path: Path, percent: float | None, cores: int) -> None:
    work, _ = read(WfFormatSource(save(tmp_path, a_1=workflow(task("x", avgCPU=percent)))))
    assert work.tasks.cpu.tolist() == [cores]


@pytest.mark.parametrize(
    ("executed", "when"),
    [
        ("2023-03-21T11:10:20-10:00", WHEN),
        ("20230321T211020+0000", WHEN),
        ("03-21-23T21:10:20Z", WHEN),
        ("2023-03-21T21:10:20", WHEN),
        ("some day", datetime(2024, 1, 1, tzinfo=UTC)),
        (None, datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_submit_is_when_it_was_executed_else_created(tmp_path: Path, executed: str | None, when: datetime) -> None:
    work, _ = read(WfFormatSource(save(tmp_path, a_1=workflow(task("x"), executed=executed))))
    assert work.runs.submit[0] == epoch(when)


def test_a_given_time_is_needed_where_the_file_has_none(tmp_path: Path) -> None:
    folder = save(tmp_path, a_1=workflow(task("x"), executed=None, createdAt=None), a_2=workflow(task("x")))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert read(WfFormatSource(folder, at=at))[0].runs.submit.tolist() == [epoch(at), epoch(WHEN)]
    work, batches = read(WfFormatSource(folder))
    assert work.runs.run_id.tolist() == ["a-2"]
    assert "neither when it was executed" in batches[0].rejects[0].reason
    assert WfFormatSource(folder, at=at).digest != WfFormatSource(folder).digest


def test_tasks_that_cannot_be_used(tmp_path: Path) -> None:
    flow = workflow(
        task("a"),
        task("b", -1),
        task("c", parents=["b", "a", "gone"]),
        task("a"),
        task("", 1),
        task("d", memoryInBytes="lots"),
    )
    work, batches = read(WfFormatSource(save(tmp_path, a_1=flow)))
    assert work.tasks.task_id.tolist() == ["a", "c"]
    assert [(r.line, r.reason) for r in batches[0].rejects] == [
        (2, "negative runtimeInSeconds"),
        (4, "id stands twice"),
        (5, "no id"),
        (6, "memoryInBytes is not a number"),
    ]
    assert batches[0].rejects[0].raw.startswith("a-1.json: ")
    assert any(n.startswith("2 parents") for n in batches[0].notes)


def test_a_task_without_an_execution_has_no_known_runtime(tmp_path: Path) -> None:
    work, batches = read(WfFormatSource(save(tmp_path, a_1=workflow(task("a"), {"id": "b", "parents": ["a"]}))))
    assert np.isnan(work.tasks.runtime_s).tolist() == [False, True]
    assert any("no execution" in n for n in batches[0].notes)


def test_old_versions_are_understood(tmp_path: Path) -> None:
    old = {
        "schemaVersion": "1.4",
        "workflow": {
            "executedAt": "2023-03-21T21:10:20Z",
            "tasks": [
                {"name": "x", "id": "x_1", "runtimeInSeconds": 3, "coreCount": 2, "memoryInBytes": GIB},
                {"name": "y", "id": "y_1", "runtime": 4, "cores": 1, "memory": GIB / 1000, "parents": ["x"]},
            ],
        },
    }
    work, _ = read(WfFormatSource(save(tmp_path, a_1=old)))
    assert work.tasks.runtime_s.tolist() == [3, 4]
    assert work.tasks.cpu.tolist() == [2, 1]
    assert work.tasks.memory.tolist() == pytest.approx([1, 1])
    assert work.tasks.ready_at.tolist() == [epoch(WHEN), epoch(WHEN) + 3]


def test_broken_files_in_a_folder_are_rejects_and_the_others_stay(tmp_path: Path) -> None:
    save(
        tmp_path,
        a_1=workflow(task("x")),
        a_3={"no": "workflow"},
        a_4=workflow(task("x", parents=["x"])),
        a_5=workflow(),
    )
    (tmp_path / "a-2.json").write_text('{\n"workflow": [,]}')
    work, batches = read(WfFormatSource(tmp_path))
    assert work.runs.run_id.tolist() == ["a-1"]
    rejects = [r for b in batches for r in b.rejects]
    assert {(r.raw, r.line) for r in rejects} >= {("a-2.json", 2), ("a-3.json", 1), ("a-4.json", 1), ("a-5.json", 1)}
    assert any("not JSON" in r.reason for r in rejects)
    assert any("there is no 'workflow'" in r.reason for r in rejects)
    assert any("cycle" in r.reason for r in rejects)


def test_two_files_of_one_name_are_one_run(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder, a_1=workflow(task(folder)))
    work, batches = read(WfFormatSource(tmp_path))
    assert work.tasks.task_id.tolist() == ["p"]
    assert "second workflow" in batches[0].rejects[0].reason


def archive(path: Path, mode: str, **files: Any) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            text = json.dumps(content).encode()
            info = tarfile.TarInfo(f"deep/{name.replace('_', '-')}.json")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("w.tar", "w"), ("w.tar.gz", "w:gz"), ("w.tgz", "w:gz"), ("w.tar.xz", "w:xz")]
)
def test_archives(tmp_path: Path, name: str, mode: str) -> None:
    path = archive(tmp_path / name, mode, b_1=workflow(task("x")), a_1=workflow(task("y")))
    work, _ = read(WfFormatSource(path))
    assert work.runs.run_id.tolist() == ["a-1", "b-1"]


def test_a_truncated_archive(tmp_path: Path) -> None:
    tasks = [task(f"x{i}", i) for i in range(2000)]
    path = archive(tmp_path / "w.tar.xz", "w:xz", a_1=workflow(*tasks))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="cut short"):
        list(WfFormatSource(path).read())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", lzma.compress(b"x")])
def test_nothing_usable_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.json").write_bytes(content)
    with pytest.raises(SourceError, match="no usable workflow"):
        list(WfFormatSource(tmp_path / "w.json").read())


def test_an_empty_folder_and_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no usable workflow"):
        list(WfFormatSource(tmp_path).read())
    with pytest.raises(SourceError, match="there is no file"):
        WfFormatSource(tmp_path / "absent")


@pytest.mark.slow
def test_real_instances(traces: Path) -> None:
    source = WfFormatSource(traces / "dags" / "wfinstances.tar.xz")
    work, batches = read(source)
    assert (len(work.runs), len(work)) == (102, 28_028)
    assert not any(b.rejects for b in batches)
    assert work.tasks.runtime_s.notna().all()
    assert work.tasks.ready_at.notna().all()
    assert work.runs.run_id.is_monotonic_increasing or work.runs.run_id.is_unique
    # 2 GiB a core where the application never says: 1000genome, cycles
    silent = work.tasks[work.tasks.signature.str.startswith("cycles/")]
    assert (silent.memory == 2 * silent.cpu).all()
