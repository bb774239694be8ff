"""Kinds of machine compared by work that ran on both, and runs and curves moved from one to another."""

import numpy as np
import pytest

from preprov.model.usage import UsageRun
from preprov.profiles.aligned import features
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.machines import Machines, moved, stretched

SPEED = {"a": 1.0, "b": 2.0, "c": 0.5}


def trace(seed: int = 0, grows: float = 0.0) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Signatures on machines of known speed; larger inputs take longer, and the slow machine got the smaller ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(12):
        level = rng.uniform(3, 7)
        for kind in rng.choice(list(SPEED), 2, replace=False) if s else SPEED:
            for _ in range(6):
                size = rng.normal(20 - 2 * np.log(SPEED[kind]), 0.5)
                log = level + np.log(SPEED[kind]) + grows * (size - 20) + rng.normal(0, 0.05)
                rows.append((f"t/d/task{s}/x", kind, np.exp(log), size))
    names, kinds, seconds, sizes = zip(*rows, strict=True)
    return list(names), list(kinds), np.array(seconds), np.array(sizes)


def test_what_ran_on_both_tells_how_much_longer_one_takes() -> None:
    names, kinds, seconds, sizes = trace()
    made = Machines.learn(names, kinds, seconds, np.full(len(sizes), np.nan))
    assert made.factor("a", "b") == pytest.approx(2.0, rel=0.1)
    assert made.factor("b", "c") == pytest.approx(0.25, rel=0.15)
    assert made.factor("b", "a") * made.factor("a", "b") == pytest.approx(1.0)


def test_that_a_machine_got_smaller_inputs_is_not_taken_for_speed() -> None:
    names, kinds, seconds, sizes = trace(grows=0.6)
    blind = Machines.learn(names, kinds, seconds, np.full(len(sizes), np.nan)).factor("a", "b")
    seeing = Machines.learn(names, kinds, seconds, sizes).factor("a", "b")
    assert seeing == pytest.approx(2.0, rel=0.15)
    assert abs(np.log(blind / 2)) > 3 * abs(np.log(seeing / 2))


def test_one_signature_is_believed_by_half_when_it_ran_once_on_each_and_by_nine_tenths_when_often() -> None:
    once = Machines.learn(["s", "s"], ["a", "b"], np.array([10.0, 40.0]), np.full(2, np.nan))
    often = Machines.learn(["s"] * 40, ["a", "b"] * 20, np.tile([10.0, 40.0], 20), np.full(40, np.nan))
    assert 1.5 < once.factor("a", "b") < 2.5
    assert 3.3 < often.factor("a", "b") < 4.0


def test_kinds_that_no_work_joins_and_kinds_that_nobody_knows_count_as_alike() -> None:
    none = np.full(4, np.nan)
    apart = Machines.learn(["s", "s", "t", "t"], ["a", "b", "c", "d"], np.array([1.0, 9.0, 3.0, 5.0]), none)
    assert apart.factor("a", "c") == apart.factor("b", "d") == 1.0
    assert apart.factor("a", "b") > 1
    assert apart.factor("a", "zz") == apart.factor("", "a") == Machines().factor("a", "b") == 1.0
    assert Machines.learn(["s"], ["a"], np.array([1.0]), none[:1]) == Machines()
    broken = Machines.learn(["s"] * 3, ["a", "b", "b"], np.array([np.nan, 0.0, -1.0]), none[:3])
    assert broken.factor("a", "b") == 1.0
    assert Machines.learn([], [], np.empty(0), np.empty(0)) == Machines()


def test_a_run_on_a_slower_machine_takes_longer_holds_the_same_and_moves_less_a_second() -> None:
    at, flat = np.arange(10) * 10.0, np.ones(10)
    run = UsageRun("W", "P", 0.0, 100.0, at, 4 * flat, 2 * flat, more={"disk_io": 80 * flat, "gpu": flat}, machine="a")
    slow = moved(run, 2.0, "b")
    assert (slow.duration_s, slow.at[-1], slow.machine) == (200.0, 180.0, "b")
    assert (slow.memory == run.memory).all()
    assert (slow.cpu == run.cpu).all()
    assert (slow.more["disk_io"][0], slow.more["gpu"][0]) == (40.0, 1.0)
    assert moved(run, 1.0, "b") is run


def test_a_curve_of_moved_runs_is_the_moved_curve() -> None:
    runs = []
    for i in range(6):
        at = np.arange(20) * 5.0
        amount = np.where(at < 50, 1.0, 3.0 + 0.1 * i)
        runs.append(UsageRun("W", "P", float(i), 100.0 + i, at, amount, amount, more={"network": 10 * amount}))
    here, there = CurveSizer(4, 64.0), CurveSizer(4, 64.0)
    for run in runs:
        here.learn(run)
        there.learn(moved(run, 3.0, "slow"))
    for resource in here.resources:
        one, other = (
            stretched(here.curve(features(runs[0]), resource), 3.0),
            there.curve(features(runs[0]), resource),
        )
        assert one.at == pytest.approx(other.at)
        assert one.runtime_s == pytest.approx(other.runtime_s)
        assert one.values == pytest.approx(other.values, rel=1e-6)
        assert one.peak == pytest.approx(other.peak, rel=1e-6)
        assert [p.start_s for p in one.phases] == pytest.approx([p.start_s for p in other.phases])
