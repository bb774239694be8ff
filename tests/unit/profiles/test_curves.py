"""Use over time: steps that fit it, models of it, peers, the backtest and its command."""

import io
import itertools
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.cli.main import run as command
from preprov.control.backtest_curves import run_curves_backtest
from preprov.model.usage import UsageRun
from preprov.profiles.aligned import BINS, binned, features
from preprov.profiles.curve_peers import ConstantPeak, KSegments
from preprov.profiles.curve_sizer import CurveSizer, pinball
from preprov.profiles.curves import LEVELS, Scenarios, weighted_quantiles
from preprov.profiles.sequence_teacher import available
from preprov.profiles.steps import Steps, fitted, outcome

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schemas" / "backtest-curves.json"
HOUR = 3600.0


def ran(
    low: float = 1.0, high: float = 8.0, duration: float = HOUR, at: float = 0.75, number: int = 0, size: float = 1e9
) -> UsageRun:
    """`low` GiB until a share of the run, `high` after it; a sample every hundredth of it."""
    times = np.arange(100) * duration / 100
    memory = np.where(np.arange(100) < 100 * at, low, high)
    return UsageRun("W", "P", float(number), duration, times, memory, memory / 2, 16.0, size, 2.0)


def growing(count: int, seed: int = 0) -> list[UsageRun]:
    """Runs as long as their input is large; the last quarter needs eight times what the rest does."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(1e9, 2e10, count)
    return [ran(duration=600 + 3e-7 * s * float(rng.lognormal(0, 0.02)), number=i, size=s) for i, s in enumerate(sizes)]


# --------------------------------------------------------------------------- steps


def test_steps_that_fit_waste_only_what_lies_above_the_curve() -> None:
    steps = Steps(np.array([0.0, 0.75 * HOUR]), np.array([2.0, 8.0]))
    came = outcome(steps, ran(), 128.0)
    assert (came.failures, came.wasted, came.used) == (0, pytest.approx(0.75), pytest.approx(0.75 + 2.0))


def test_what_fails_wastes_all_that_it_had_and_starts_again_with_twice_as_much_from_there_on() -> None:
    came = outcome(Steps(np.array([0.0, 0.5 * HOUR]), np.array([1.0, 4.0])), ran(), 128.0)
    assert came.failures == 1
    assert came.wasted == pytest.approx(0.5 + 0.26 * 4 + (0.25 * 7), rel=1e-6)


def test_a_node_is_enough_for_everything() -> None:
    assert outcome(Steps.flat(1.0), ran(high=500.0), 4.0).failures == 2


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=7), st.integers(1, 4))
def test_no_other_steps_fit_better(curve: list[float], most: int) -> None:
    needed = np.array(curve)
    made = fitted(needed, 1.0, most)
    at = np.arange(len(needed)) + 0.5
    assert (made.at(at) >= needed).all()
    assert len(made.start) <= most
    assert made.start[0] == 0.0
    best = np.inf
    for cuts in itertools.combinations(range(1, len(needed)), min(most, len(needed)) - 1):
        parts = np.split(needed, cuts)
        best = min(best, sum(p.max() * len(p) for p in parts))
    assert made.at(at).sum() == pytest.approx(best)


# --------------------------------------------------------------------------- models


def test_bins_of_a_run_of_one_sample() -> None:
    one = UsageRun("W", "P", 0.0, 5.0, np.zeros(1), np.array([2.0]), np.array([np.nan]))
    assert binned(one, "memory").tolist() == [2.0] * BINS
    assert np.isnan(binned(one, "cpu")).all()


def test_weighted_quantiles_of_equal_weights() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_quantiles(values, np.ones(3), np.array([0.5, 0.0, 1.0])).tolist() == [2.0, 1.0, 3.0]


def test_the_curve_names_its_phases_and_the_chance_of_too_little() -> None:
    one = binned(ran(), "memory")
    curve = Scenarios(np.stack([one, 2 * one]), np.full(2, HOUR), np.full(2, 0.5)).curve("memory")
    assert curve.values.shape == (BINS, len(LEVELS))
    assert [round(p.start_s / HOUR, 2) for p in curve.phases] == [0.0, 0.75]
    assert curve.phases[1].amount == pytest.approx(8 * curve.phases[0].amount)
    chances = [curve.above(limit) for limit in (1.0, 12.0, 100.0)]
    assert chances == pytest.approx([2 / 3, 0.5, 1 / 3])  # two runs make nobody sure


def test_longer_inputs_are_given_the_peak_later() -> None:
    sizer = CurveSizer(4, 128.0)
    for past in growing(30):
        sizer.learn(past)
    for size in (4e9, 1.8e10):
        asked = ran(duration=600 + 3e-7 * size, size=size)
        came = outcome(sizer.allocate(features(asked)), asked, 128.0)
        assert came.failures == 0
        assert came.wasted < 0.35 * came.used
        assert 0.9 < sizer.curve(features(asked), "memory").runtime_s[3] / asked.duration_s < 1.1


def test_what_the_run_itself_does_is_not_looked_at_before_it() -> None:
    """A canary: the same input, another run."""
    sizer = CurveSizer(4, 128.0)
    for past in growing(25):
        sizer.learn(past)
    usual = ran(size=5e9)
    other = replace(usual, memory=usual.memory * 50, cpu=usual.cpu * 50)
    first, second = sizer.allocate(features(usual)), sizer.allocate(features(other))
    assert (first.start.tolist(), first.amount.tolist()) == (second.start.tolist(), second.amount.tolist())
    assert (sizer.quantiles(usual, "cpu") == sizer.quantiles(other, "cpu")).all()


def test_pinball_by_hand() -> None:
    assert pinball(np.array([[1.0, 4.0]]), np.array([3.0]), np.array([0.5, 0.9])) == pytest.approx((1.0 + 0.1) / 2)
    assert pinball(np.array([[1.0]]), np.array([np.nan]), np.array([0.5])) == 0.0


# --------------------------------------------------------------------------- peers


def test_the_constant_peak_is_the_highest_so_far() -> None:
    peer = ConstantPeak(4)
    peer.learn(ran(high=8.0))
    peer.learn(ran(high=5.0))
    assert peer.allocate(features(ran())).amount.tolist() == [8.0]


def test_k_segments_by_hand() -> None:
    """100, 200, 300 s on inputs 1, 2, 3, peaks in four quarters of 1, 1, 1, size + 1: no error, so no offset."""
    peer = KSegments(4)
    for size in (1e9, 2e9, 3e9):
        peer.learn(ran(high=size / 1e9 + 1, duration=size / 1e7, size=size))
    steps = peer.allocate(features(ran(size=4e9)))
    assert steps.start == pytest.approx([0, 100, 200, 300], rel=1e-6)
    assert steps.amount == pytest.approx([1, 1, 1, 5], rel=1e-6)
    peer.learn(ran(high=9.0, duration=500.0, size=2e9))  # lines then: 75 s more, errors 225 and -75
    steps = peer.allocate(features(ran(size=2e9)))
    assert steps.start[1] == pytest.approx((275 - 75) / 4, rel=1e-6)
    assert steps.amount[3] == pytest.approx(4.5 + 4.5, rel=1e-6)


# --------------------------------------------------------------------------- backtest


def test_steps_that_follow_the_course_waste_less_than_any_peer() -> None:
    scores = run_curves_backtest(growing(50))["methods"]
    assert all(scores["ours"]["gbh"] < scores[peer]["gbh"] for peer in scores if peer != "ours")
    assert scores["ours"]["wql_memory"] < scores["k-segments"]["wql_memory"]


def test_the_command_reads_samples_and_runs_and_counts_what_is_broken(tmp_path: Path) -> None:
    runs = growing(12)
    tables = []
    for i, one in enumerate(runs):
        tables += [
            pd.DataFrame({"tid": i, "metric": "memory", "t": one.at, "v": one.memory * 1024}),
            pd.DataFrame({"tid": i, "metric": "cpu", "t": one.at, "v": one.cpu * 100}),
        ]
    tables[0].loc[3, "v"] = -1.0
    start = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta([60 * i for i in range(13)], unit="s")
    length = pd.to_timedelta([*(r.duration_s for r in runs), 60.0], unit="s")
    listed = pd.DataFrame({"tid": range(13), "process": "P", "start": start, "end": start + length})
    listed["meta_files_input_total_size"] = [*(r.input_bytes for r in runs), 1.0]
    pd.concat(tables).to_parquet(tmp_path / "series.parquet")
    listed.to_parquet(tmp_path / "tasks.parquet")
    out = io.StringIO()
    words = ["backtest", "curves", str(tmp_path / "series.parquet"), "--tasks", str(tmp_path / "tasks.parquet")]
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert command([*words, "--picture", str(tmp_path / "curves.svg"), "-o", "json"]) == 0
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")
    document = json.loads(out.getvalue())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert set(document["methods"]) == {"ours", "constant-peak", "k-segments", "median-curve"}
    assert document["rejects"] == 1
    assert "1 samples left out: no number or below zero" in document["notes"]
    assert ("sequence" in document["members"]) is available()
    left_out = [n for n in document["notes"] if n.startswith("sequence model left out: torch is not installed")]
    assert len(left_out) == (not available())
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert command(words) == 0
        assert command([*words[:3], "--tasks", words[2]]) == 1
    assert "k-segments" in out.getvalue()
