"""What tasks should ask for."""

import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.profiles.patches import TARGETS, patch
from preprov.profiles.requests import Need, Room, needs, parts, whole
from preprov.profiles.waste import Price
from preprov.sources.submission import read_submission
from tests.unit.profiles.runs import executions

ROOM = Room(16.0, 64.0)
PRICE = Price(failure=2.0, cap=64.0)


def test_one_request_holds_all_but_a_share_of_the_runs():
    rng = np.random.default_rng(0)
    ran = executions([{"peak": float(p), "memory": 64.0} for p in rng.lognormal(1.0, 0.8, 400)])
    (careful,) = needs(ran, ROOM, PRICE, failures=0.0)
    (usual,) = needs(ran, ROOM, PRICE, failures=0.02)
    (bold,) = needs(ran, ROOM, PRICE, failures=0.5)
    assert careful.too_small <= careful.odd <= 4
    assert usual.too_small <= 8
    assert bold.too_small > usual.too_small
    assert careful.ask_memory > usual.ask_memory > bold.ask_memory


def test_odd_runs_are_counted_and_say_nothing_of_what_to_ask_for():
    rng = np.random.default_rng(1)
    rows = [{"peak": float(p), "cpu": 1.0, "cpu_p95": 1.2} for p in rng.normal(4.0, 0.1, 30)]
    (without,) = needs(executions(rows), ROOM, PRICE, failures=0.0)
    leak = {"peak": 40.0, "cpu": 9.0, "cpu_p95": 12.0}
    (one,) = needs(executions([*rows[:20], leak, *rows[20:]]), ROOM, PRICE, failures=0.0)
    assert (without.odd, one.odd, one.runs, one.too_small) == (0, 1, 31, 1)
    assert (one.ask_memory, one.ask_cpu) == (pytest.approx(without.ask_memory, rel=0.1), without.ask_cpu)
    (new,) = needs(executions([*rows, *([leak] * 5)]), ROOM, PRICE, failures=0.0)
    assert new.odd == 30, "five in a row are what is usual now"
    assert new.ask_memory >= 40.0


def test_failed_attempts_are_part_of_what_is_needed():
    ran = executions([{"peak": 20.0, "memory": 64.0}] * 9 + [{"peak": 50.0, "memory": 64.0}])
    (need,) = needs(ran, ROOM, PRICE, failures=0.1)
    assert need.too_small == 1
    assert 20.0 <= need.ask_memory < 25.0  # so that the last run needs three attempts, the third with all of a node
    used = 9 * need.ask_memory + need.ask_memory + 2 * need.ask_memory + 64.0
    assert need.node_hours_needed == pytest.approx(used / 64 / 6)


def test_cores_are_what_nearly_all_runs_do_not_exceed_and_never_more_than_a_node_has():
    (need,) = needs(executions([{"cpu_p95": c} for c in (1.01, 1.02, 1.03, 40.0)]), ROOM, PRICE)
    assert need.ask_cpu == 16.0
    (need,) = needs(executions([{"cpu_p95": 1.01, "cpu": 0.2}] * 5), ROOM, PRICE)
    assert need.ask_cpu == pytest.approx(1.1)
    (need,) = needs(executions([{"cpu": 0.01}] * 5), ROOM, PRICE)
    assert need.ask_cpu == pytest.approx(0.1)
    (need,) = needs(executions([{"cpu": np.nan}] * 5), ROOM, PRICE)
    assert math.isnan(need.ask_cpu)
    assert need.said


def test_parts_add_up_and_the_one_that_frees_most_comes_first():
    ran = executions(
        [{"workflow": "small", "peak": 7.0}] * 3
        + [{"workflow": "big", "process": p, "memory": 64.0, "peak": 1.0, "tenant": "bi"} for p in "AAABBB"]
    )
    found = needs(ran, ROOM, PRICE)
    assert [p.name for p in parts(found, "dag")] == ["big", "small"]
    assert [p.name for p in parts(found, "tenant")] == ["bi", ""]
    assert found[0].dag == "big"
    every = whole(found)
    assert (every.tasks, every.runs) == (3, 9)
    assert every.node_hours_asked == pytest.approx(sum(p.node_hours_asked for p in parts(found, "dag")))
    assert 0 < every.saved < 1


@given(st.lists(st.floats(0.01, 200.0), min_size=3, max_size=40), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_whatever_was_used_a_node_can_give_it_and_few_enough_fail(peaks: list[float], failures: float):
    (need,) = needs(executions([{"peak": p} for p in peaks]), ROOM, PRICE, failures=failures)
    assert 0 < need.ask_memory <= 64.0
    beyond = sum(p > 64.0 for p in peaks)
    assert need.too_small <= max(math.floor(failures * len(peaks)), beyond) + 1e-9


def a_need(**changes: object) -> Need:
    base: dict[str, object] = {
        "tenant": "bi", "dag": "etl\nrm -rf", "task": 'load "x"', "runs": 3, "measured": 3, "asked_cpu": 4.0,
        "asked_memory": 64.0, "cpu": (1.0, 1.4), "memory": (8.0, 9.0), "ask_cpu": 1.5, "ask_memory": 9.0625,
        "hours": 3.0, "node_hours_asked": 3.0, "node_hours_needed": 0.5, "too_small": 0,
    }  # fmt: skip
    return Need(**{**base, **changes})  # type: ignore[arg-type]


def test_kubernetes_patches_are_documents_that_name_the_container():
    (document,) = [d for d in yaml.safe_load_all(patch([a_need()], "kubernetes")) if d]
    (container,) = document["spec"]["template"]["spec"]["containers"]
    assert container["name"] == 'load "x"'
    assert container["resources"] == {"requests": {"cpu": "1500m", "memory": "9280Mi"}, "limits": {"memory": "9280Mi"}}


def test_prefect_patches_are_job_variables():
    (deployment,) = yaml.safe_load(patch([a_need()], "prefect"))
    assert deployment["work_pool"]["job_variables"] == {"cpu": "1500m", "memory": "9280Mi"}


def test_slurm_gets_whole_cores_and_a_name_cannot_leave_its_comment():
    lines = patch([a_need()], "slurm").splitlines()
    assert lines == ['# etl rm -rf load "x"', "#SBATCH --mem=9280M", "#SBATCH --cpus-per-task=2"]


def test_airflow_patches_are_python_that_parses():
    text = patch([a_need(task="load")], "airflow")
    call = compile(f"dict({text.splitlines()[1]}\n{text.splitlines()[2]})", "patch", "eval")
    assert "k8s" in call.co_names
    assert json.dumps({"cpu": "1500m", "memory": "9280Mi"}) in text


def test_our_own_patch_is_read_by_submit(tmp_path):
    file = tmp_path / "dag.toml"
    file.write_text(
        'id = "etl"\n' + patch([a_need(task="load")], "preprov").replace("[[task]]", '[[task]]\ncommand = "true"')
    )
    (spec,) = read_submission(file)
    assert spec.task("load").request.memory == 9.0625
    assert spec.task("load").request.cpu == 1.5


@pytest.mark.parametrize("target", TARGETS)
def test_a_task_of_which_nothing_can_be_said_is_in_no_patch(target: str):
    assert patch([a_need(ask_memory=math.nan)], target) == ""
    assert "cpu" not in patch([a_need(ask_cpu=math.nan)], target).replace("cpus", "")
