"""Runtimes foretold: what may be known when, members, the mix, and the command."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from preprov.cli.main import run as command
from preprov.control.backtest_runtime import run_runtime_backtest
from preprov.profiles.runtime_members import LEVELS, MEMBERS, crps
from preprov.profiles.runtime_rows import Fold, RuntimeRows, folds_by_machine, folds_in_time, rows_of_executions
from tests.unit.profiles.runs import executions

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schemas" / "backtest-runtime.json"


def jobs(count: int, seed: int = 0) -> RuntimeRows:
    """Users who ask for far too much, each by a factor of their own; machines of different speed."""
    rng = np.random.default_rng(seed)
    user, machine = rng.integers(0, 5, count), rng.integers(0, 3, count)
    size = rng.normal(10, 1, count)
    runtime = 1.0 + user + 0.2 * size + 0.5 * machine + rng.normal(0, 0.1, count)
    submitted = np.arange(count) * 600.0
    zero = np.full(count, 1.0)
    return RuntimeRows(
        user, user % 2, machine, submitted, submitted + np.exp(runtime), runtime, runtime + 1 + user / 5, size, zero
    )


def test_crps_by_hand() -> None:
    certain = np.full((1, len(LEVELS)), 2.0)
    assert crps(certain, np.array([5.0])) == pytest.approx([3.0])  # of a point: how far it is
    assert crps(certain, np.array([2.0])) == pytest.approx([0.0])


def test_only_what_had_ended_is_learnt_from_and_told() -> None:
    rows = jobs(200)
    for fold in folds_in_time(rows, 0.3, 4, 40):
        assert rows.ended[fold.history].max() <= rows.submitted[fold.judged].min()
        assert len(fold.judged) <= 40
    slow = replace(rows, ended=rows.submitted + 1e9)
    assert np.isnan(slow.recent()).all()
    assert np.isfinite(rows.recent()[-1]).all()
    jumped = replace(rows, ended=rows.submitted - 1.0)
    assert np.isnan(jumped.recent()).all()


def test_each_machine_is_foretold_from_the_others_and_one_probe_of_each_process() -> None:
    rows = jobs(120)
    folds = folds_by_machine(rows)
    assert len(folds) == 3
    for fold in folds:
        here = set(rows.machine[fold.judged].tolist())
        probes = fold.history[np.isin(rows.machine[fold.history], list(here))]
        assert len(here) == 1
        assert sorted(rows.exact[probes].tolist()) == sorted(set(rows.exact[probes].tolist()))
        assert not set(fold.history.tolist()) & set(fold.judged.tolist())


def test_what_ran_elsewhere_is_nearer_once_it_was_moved_to_the_machine_and_in_time_nothing_is_moved() -> None:
    rows = replace(jobs(300), submitted=np.full(300, np.nan))
    across = run_runtime_backtest(rows)["transfer"]
    assert across["moved"] < 0.6 * across["as_it_was"]
    assert run_runtime_backtest(jobs(120), blocks=2)["transfer"] is None


def test_the_canary_a_judged_runtime_reaches_no_quantile_of_its_own() -> None:
    rows = jobs(150)
    fold = Fold(np.arange(100), np.arange(100, 150), "x")
    planted = replace(rows, log_runtime=np.where(np.arange(150) >= 100, 99.0, rows.log_runtime))
    recent = rows.recent()
    for name, member in MEMBERS.items():
        usual, told = member(rows, fold, recent), member(planted, fold, recent)
        assert usual.shape == (50, len(LEVELS)), name
        assert np.isfinite(usual).all(), name
        assert (usual == told).all(), name


def test_the_mix_is_not_worse_than_the_peers_where_there_is_something_to_learn() -> None:
    report = run_runtime_backtest(jobs(400), blocks=3)
    assert report["summary"]["ratio_crps_log"] < 1.0
    assert 0.6 < report["methods"]["ours"]["coverage_80"] < 0.98


def test_an_execution_trace_becomes_rows() -> None:
    rows = rows_of_executions(executions([{"process": p, "runtime_s": s} for p, s in (("A", 10.0), ("B", 0.0))]))
    assert rows.log_runtime == pytest.approx([np.log(10.0), 0.0])
    assert rows.exact.tolist() == [0, 1]
    assert rows.kin.tolist() == [0, 0]


def test_the_command_judges_a_log_and_says_what_it_mixed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = ["; UnixStartTime: 1000000000", "; MaxProcs: 8"]
    for i in range(120):
        user, runtime = i % 3, int(60 * (1 + i % 3) * rng.lognormal(0, 0.1))
        fields = [i + 1, 600 * i, 0, runtime, 2, -1, -1, 2, 3600, -1, 1, user, user, user, 1, 1, -1, -1]
        lines.append(" ".join(map(str, fields)))
    log = tmp_path / "small.swf"
    log.write_text("\n".join(lines) + "\n")
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert command(["backtest", "runtime", str(log), "-o", "json"]) == 0
    document = json.loads(out.getvalue())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert document["summary"]["protocol"] == "in time"
    assert all(fold["mixed"] for fold in document["folds"])
    table = tmp_path / "t.csv"
    pd.DataFrame({"process": ["A"] * 3, "realtime": [1, 2, 3]}).to_csv(table, index=False)
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert command(["backtest", "runtime", str(table)]) == 1  # no times, one machine
