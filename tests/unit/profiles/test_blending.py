"""Several models' quantiles, put right and mixed; gates; chances and their scores."""

from dataclasses import replace

import numpy as np
import pytest

from preprov.model.usage import UsageRun, unit
from preprov.profiles import chances
from preprov.profiles.aligned import BINS, features
from preprov.profiles.blending import Blend, weighed
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.curves import LEVELS

NORMAL = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


def told(center: float, spread: float) -> np.ndarray:
    return (center + spread * NORMAL)[None, :]


def learnt(runs: int, **models: tuple[float, float]) -> Blend:
    """Models that say the same of each run, which comes as normal(10, 1)."""
    rng = np.random.default_rng(1)
    blend = Blend([m for m in models if m != "rich"], [m for m in models if m == "rich"])
    for _ in range(runs):
        blend.learn({m: told(*of) for m, of in models.items()}, rng.normal(10.0, 1.0, 1))
    return blend


@pytest.mark.parametrize(("center", "spread"), [(10.0, 0.4), (10.0, 3.0), (8.5, 1.0)])
def test_whatever_a_model_says_its_quantiles_come_to_cover_what_they_should(center: float, spread: float) -> None:
    rng, blend, inside, raw = np.random.default_rng(1), Blend(["only"], []), [], []
    for _ in range(500):
        came = rng.normal(10.0, 1.0, 1)
        for said, kept in ((blend.mixed({"only": told(center, spread)}), inside), (told(center, spread), raw)):
            kept.append(bool(said[0, 1] <= came[0] <= said[0, 5]))
        blend.learn({"only": told(center, spread)}, came)
    assert abs(np.mean(inside[100:]) - 0.8) < 0.04
    assert abs(np.mean(raw[100:]) - 0.8) > 0.1


def test_quantiles_do_not_cross_and_none_is_below_nothing() -> None:
    blend = Blend(["a"], [])
    for came in (0.0, 0.0, 50.0, 0.0, 0.0, 0.0):
        blend.learn({"a": told(1.0, 2.0)}, np.array([came]))
        out = blend.mixed({"a": told(1.0, 2.0)})[0]
        assert (np.diff(out) >= 0).all()
        assert out[0] >= 0


def test_the_better_of_two_models_weighs_more_and_two_as_good_weigh_the_same() -> None:
    weights = learnt(60, good=(10.0, 1.0), bad=(14.0, 1.0)).weights
    assert weights["good"] > 0.9
    assert learnt(60, one=(10.0, 1.0), other=(10.0, 1.0)).weights == {"one": 0.5, "other": 0.5}
    assert learnt(0, one=(10.0, 1.0), other=(14.0, 1.0)).weights == {"one": 0.5, "other": 0.5}


def test_a_richer_model_has_no_say_until_it_has_beaten_the_simpler_ones_by_a_margin() -> None:
    assert "rich" not in learnt(0, simple=(10.0, 1.0), rich=(10.0, 1.0)).weights
    assert "rich" not in learnt(60, simple=(10.0, 1.0), rich=(10.0, 1.0)).weights
    assert learnt(60, simple=(13.0, 3.0), rich=(10.0, 1.0)).weights["rich"] > 0.5
    assert set(weighed({"a": 1.0, "b": 0.99, "c": 0.9}, ["a"], ["b", "c"])) == {"a", "c"}
    assert set(weighed({"a": 1.0, "b": 0.9, "c": 0.89}, ["a"], ["b", "c"])) == {"b", "a"}


def test_the_mean_of_two_loses_less_than_either_where_they_err_to_both_sides() -> None:
    rng = np.random.default_rng(3)
    blend = Blend(["low", "high"], [])
    lost = {"low": 0.0, "high": 0.0, "mixed": 0.0}
    for _ in range(200):
        off, came = rng.normal(0, 1.0), rng.normal(10.0, 0.3, 1)
        said = {"low": told(10.0 - off, 1.0), "high": told(10.0 + off, 1.0)}
        mixed = blend.mixed(said)
        away = came[:, None] - mixed
        lost["mixed"] += float(np.maximum(LEVELS * away, (LEVELS - 1) * away).mean())
        for model, loss in blend.learn(said, came).items():
            lost[model] += loss
    assert lost["mixed"] < 0.8 * min(lost["low"], lost["high"])


# --------------------------------------------------------------------------- any resource


def run(number: int, **more: float) -> UsageRun:
    rng = np.random.default_rng(number)
    at = np.arange(40) * 10.0
    flat = np.ones(40)
    return UsageRun(
        "W",
        "P",
        float(number),
        400.0,
        at,
        flat * rng.uniform(1, 2),
        flat,
        more={name: np.where(at < 200, 0.1, 1.0) * top * rng.uniform(0.9, 1.1) for name, top in more.items()},
    )


def test_every_resource_that_was_observed_is_foretold_with_peak_and_phases_and_no_other() -> None:
    sizer = CurveSizer(4, 128.0)
    for i in range(6):
        sizer.learn(run(i))
    assert sizer.resources == ("memory", "cpu")
    for i in range(6, 12):
        sizer.learn(run(i, network=80.0, gpu_memory=12.0))
    assert sizer.resources == ("memory", "cpu", "network", "gpu_memory")
    curve = sizer.curve(features(run(12)), "network")
    assert curve.runs == 6
    assert curve.peak[3] == pytest.approx(80, rel=0.1)
    assert [round(p.start_s, -1) for p in curve.phases] == [0, 200]
    assert curve.values.shape == (BINS, len(LEVELS))
    assert 0 < curve.above(80.0) < 1 - 1 / 8
    assert np.isfinite(curve.values).all()
    assert (unit("network"), unit("gpu_memory"), unit("anything")) == ("MB/s", "GiB", "1/s")


def test_one_run_without_samples_of_a_resource_takes_nothing_from_the_others() -> None:
    sizer, whole = CurveSizer(4, 128.0), CurveSizer(4, 128.0)
    for i in range(30):
        one = run(i, disk_io=30.0)
        sizer.learn(replace(one, more={}) if i % 3 == 0 else one)
        whole.learn(one)
    assert sizer.curve(features(run(40)), "disk_io").peak[3] == pytest.approx(30, rel=0.1)
    ours, theirs = (s.curve(features(run(40)), "memory").values for s in (sizer, whole))
    assert (ours == theirs).all()


def test_a_task_of_which_neither_memory_nor_cores_were_seen_has_curves_of_the_rest() -> None:
    nothing = np.full(40, np.nan)
    sizer = CurveSizer(4, 128.0)
    for i in range(5):
        sizer.learn(replace(run(i, gpu=2.0), memory=nothing, cpu=nothing))
    assert sizer.resources == ("gpu",)
    assert sizer.curve(features(run(9)), "gpu").runtime_s == pytest.approx(400, rel=0.05)


# --------------------------------------------------------------------------- chances


def test_chances_are_scored_beside_climatology_by_hand() -> None:
    one = chances.Chances()
    one.add(0.9, 0.5, True)
    one.add(0.1, 0.5, False)
    told_ = chances.report([one, chances.Chances()])
    assert (told_["asked"], told_["brier"], told_["brier_climatology"]) == (2, pytest.approx(0.01), pytest.approx(0.25))
    assert told_["skill"] == pytest.approx(0.96)
    assert [(r["came"], r["count"]) for r in told_["reliability"]] == [(0.0, 1), (1.0, 1)]
    assert chances.report([])["skill"] is None
    assert chances.climatology(np.array([1.0, 2.0, 3.0]), 2.5) == pytest.approx(2 / 5)


def test_chances_that_are_always_sure_and_wrong_score_worse_than_climatology() -> None:
    one = chances.Chances()
    for i in range(10):
        one.add(1.0 if i % 2 else 0.0, 0.5, i % 2 == 0)
    assert chances.report([one])["skill"] < 0
