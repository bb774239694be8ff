"""What tasks waited on, through blocks of history; and of what is served here."""

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from preprov.contracts import PoolRuns, SeenRuns, WorkStore
from preprov.model.waits import Cause, limit_key
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.model.worktable import WAIT_COLUMNS, WorkTable
from preprov.store import columns
from preprov.store.database import open_store
from preprov.store.runcodec import dump_runs, load_runs
from preprov.testing.store_examples import POOL, T0, history, minutes
from preprov.testing.sync_contract import assert_same_waits, with_waits


def test_blocks_of_an_earlier_preprov_stand_beside_later_ones() -> None:
    plain, told = history(10), with_waits(history(30, first=10))
    blocks = [(b.runs, b.tasks, b.edges) for work in (plain, told) for b in columns.encode(work)]
    found = columns.decode(blocks)
    assert_same_waits(found, told)
    assert len(found.parents) == len(plain.parents) + len(told.parents)
    assert not columns.decode(blocks[:1]).tells_waits
    assert_same_waits(WorkTable.concat([told, plain]), told)


def test_what_an_earlier_preprov_told_of_waits_is_read_without_what_it_did_not_know() -> None:
    told = with_waits(history(10))
    (block,) = columns.encode(told)
    later = ["placed_at", "constraint", "freed_at", "priority", "images", "known_as"]
    older = pq.read_table(io.BytesIO(block.tasks)).drop_columns(later)
    out = io.BytesIO()
    pq.write_table(older, out)
    part = PoolRuns(
        SeenRuns(told, np.ones(len(told.runs), dtype=bool), np.array(["q"] * len(told), dtype=object)),
        np.ones(len(told), dtype=bool),
    )
    lines = []
    for run in dump_runs(part):
        content = json.loads(run.content)
        del content[6][6:]
        del content[6][4]
        lines.append(json.dumps(content))
    nothing = {"placed_at": np.nan, "constraint": "", "freed_at": np.nan, "priority": np.nan} | dict.fromkeys(
        ("images", "known_as"), ""
    )
    expected = replace(told, tasks=told.tasks.assign(**nothing))
    for found in (columns.decode([(block.runs, out.getvalue(), block.edges)]), load_runs(lines)):
        for name in WAIT_COLUMNS:
            np.testing.assert_array_equal(found.tasks[name].to_numpy(), expected.tasks[name].to_numpy())


def test_what_is_not_known_yet_is_hidden() -> None:
    told = with_waits(history(3))
    cut = told.as_of(T0 - timedelta(days=1))
    assert not len(cut)
    begun = float(told.tasks["started_at"].iloc[0])
    tasks = told.tasks.assign(slot_at=begun + 5.0, node="n")
    seen = replace(told, tasks=tasks).as_of(T0 + timedelta(seconds=begun - T0.timestamp() - 1.0))
    assert seen.tasks["slot_at"].isna().all()
    assert set(seen.tasks["node"]) <= {"", "n"}
    assert (seen.tasks["node"][np.isnan(seen.tasks["started_at"])] == "").all()


def test_a_task_that_its_quota_held_back_says_so(tmp_path: Path) -> None:
    store = open_store("", tmp_path)
    try:
        told_by(store.ports().work)
    finally:
        store.close()


def told_by(work: WorkStore) -> None:
    run = work.submit(DagSpec("d", (TaskSpec("a"), TaskSpec("b"), TaskSpec("c")), tenant="red"), POOL, T0)
    assert run is not None
    base = {t.task_id: t for t in work.task_runs([run.run_id])}
    began = {"state": State.RUNNING, "ready_at": T0, "started_at": T0 + minutes(5), "node_id": "n1"}
    work.save_tasks(
        [
            replace(base["a"], **began, slot_at=T0 + minutes(4), provision_wait_s=0.0),
            replace(base["b"], **began, slot_at=T0, provision_wait_s=300.0, attempt=2),
        ]
    )
    tasks = work.work(POOL).tasks.set_index("task_id")
    assert tasks["slot_of"].to_dict() == {
        "a": limit_key(Cause.QUOTA, "", "red"),
        "b": limit_key(Cause.ROOM, "", POOL),
        "c": "",
    }
    assert tasks["node"].to_dict() == {"a": "n1", "b": "n1", "c": ""}
    assert tasks["attempt"].to_dict() == {"a": 1, "b": 2, "c": 1}
    assert tasks["slot_at"]["a"] == (T0 + minutes(4)).timestamp()
    assert work.task_runs([run.run_id])[0].slot_at == T0 + minutes(4)
