"""The sequence model: what it gives whatever its weights, its gate, its stored form; and, with torch, its training."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.control.backtest_curves import run_curves_backtest
from preprov.model.errors import ConfigError, UnsafeModelError
from preprov.model.usage import UsageRun
from preprov.profiles import sequence_teacher
from preprov.profiles.aligned import BINS, RESOURCES, AlignedRuns, features
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.curves import LEVELS, History
from preprov.profiles.sequence import FEATURES, NODES, Network, SequenceCurves, Vintage, Vintages, told

UNITS = 4
HOUR = 3600.0


def network(seed: int = 0, loud: float = 0.5, use: float = 0.0) -> Network:
    """Weights that nobody trained; `use` is added to every quantile, in spreads before the bend."""
    rng = np.random.default_rng(seed)
    shapes = {
        f"gru.{name}_l0{end}": shape
        for end in ("", "_reverse")
        for name, shape in {
            "weight_ih": (3 * UNITS, FEATURES),
            "weight_hh": (3 * UNITS, UNITS),
            "bias_ih": (3 * UNITS,),
            "bias_hh": (3 * UNITS,),
        }.items()
    }
    for head in ("use", "length"):
        shapes |= {f"{head}.weight": (len(NODES), 2 * UNITS), f"{head}.bias": (len(NODES),)}
    weights = {k: rng.normal(0, loud, shape) for k, shape in shapes.items()}
    weights["use.bias"] = weights["use.bias"] + use
    return Network(weights, {r: np.zeros((2, 2, len(NODES))) for r in RESOURCES})


def vintages(of: Network, until: float = -np.inf) -> Vintages:
    return Vintages([Vintage(until, of)])


def runs(count: int, seed: int = 0, size: float = 0.5) -> list[UsageRun]:
    """Memory that climbs to what the input asks for; noise in time and amount."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        bytes_ = float(np.exp(rng.normal(22, size)))
        seconds, top = 1e-6 * bytes_ * rng.lognormal(0, 0.1), 1e-9 * bytes_ * rng.lognormal(0, 0.1)
        at = np.arange(50) * seconds / 50
        memory = top * np.linspace(0.2, 1.0, 50)
        made.append(UsageRun("W", "P", float(i), float(seconds), at, memory, memory / 2, 16.0, bytes_, 2.0))
    return made


def past_of(of: Sequence[UsageRun]) -> AlignedRuns:
    past = AlignedRuns()
    for run in of:
        past.add(run)
    return past


# --------------------------------------------------------------------------- whatever the weights


@given(st.integers(0, 10_000), st.floats(0.0, 3.0), st.sampled_from(RESOURCES))
def test_quantiles_never_cross(seed: int, loud: float, resource: str) -> None:
    *before, asked = runs(12, seed)
    past = past_of(before)
    model = SequenceCurves(vintages(network(seed, loud)))
    found = model.scenarios(past, features(asked), resource)
    assert (np.diff(found.quantiles(np.linspace(0, asked.duration_s, 20), LEVELS), axis=1) >= 0).all()
    assert found.weight.sum() == pytest.approx(1.0)
    curve = found.curve(resource)
    assert (np.diff(curve.peak) >= 0).all()
    assert (np.diff(curve.runtime_s) >= 0).all()


@given(st.floats(0.01, 100.0), st.floats(1.0, 1e6), st.integers(5, 12))
def test_a_past_that_never_varied_is_what_comes(gib: float, seconds: float, count: int) -> None:
    flat = UsageRun("W", "P", 0.0, seconds, np.zeros(1), np.full(1, gib), np.full(1, gib), input_bytes=1e9)
    past = past_of([replace(flat, submitted=float(i)) for i in range(count)])
    found = SequenceCurves(vintages(network(loud=2.0))).scenarios(past, features(flat), "memory")
    assert found.amount == pytest.approx(np.full((len(NODES) ** 2, BINS), gib), rel=1e-9)
    assert found.duration == pytest.approx(np.full(len(NODES) ** 2, seconds), rel=1e-9)


def test_few_runs_and_none_that_taught_it_are_the_past_as_it_was() -> None:
    *before, asked = runs(8)
    for past, model in (
        (past_of(before[:3]), SequenceCurves(vintages(network()))),
        (past_of(before), SequenceCurves(Vintages())),
        (past_of(before), SequenceCurves(vintages(network(), until=before[-1].submitted + 1))),
    ):
        found = model.scenarios(past, features(asked), "memory")
        assert (found.amount == History().scenarios(past, features(asked), "memory").amount).all()


def test_runs_without_cpu_are_not_told_of() -> None:
    *before, asked = runs(9)
    blind = [replace(r, cpu=np.full(len(r.at), np.nan)) for r in before]
    assert told(past_of(blind), features(asked), "cpu") is None
    assert told(past_of([*blind, *before]), features(asked), "cpu") is not None
    unknown = np.full(2, np.nan)
    mixed = told(past_of(before), unknown, "memory")
    assert mixed is not None
    assert np.isfinite(mixed.rows).all()


# --------------------------------------------------------------------------- the gate


def test_a_bad_network_is_not_followed() -> None:
    past = runs(40)
    with_it = CurveSizer(4, 128.0, vintages=vintages(network(loud=0.0, use=5.0)))
    without = CurveSizer(4, 128.0)
    for run in past[:-1]:
        with_it.learn(run)
        without.learn(run)
    for resource in RESOURCES:
        assert with_it.weights(resource) == without.weights(resource)
        assert "sequence" not in with_it.weights(resource)
        assert (with_it.quantiles(past[-1], resource) == without.quantiles(past[-1], resource)).all()
    one, other = (sizer.allocate(features(past[-1])) for sizer in (with_it, without))
    assert (one.start.tolist(), one.amount.tolist()) == (other.start.tolist(), other.amount.tolist())
    assert with_it.allocated_by != "sequence"


def test_one_that_does_as_well_is_not_followed_and_one_that_does_better_is(monkeypatch: pytest.MonkeyPatch) -> None:
    past = runs(30)
    knowing = {float(features(r)[0]): r for r in past}

    class Knows(SequenceCurves):
        def scenarios(self, past, known, resource):  # type: ignore[no-untyped-def]
            itself = past_of([knowing[float(known[0])]])
            return History().scenarios(itself, known, resource)

    class Like(SequenceCurves):
        def scenarios(self, past, known, resource):  # type: ignore[no-untyped-def]
            return History().scenarios(past, known, resource)

    for kind, is_followed in ((Like, False), (Knows, True)):
        monkeypatch.setattr("preprov.profiles.curve_sizer.SequenceCurves", kind)
        sizer = CurveSizer(4, 128.0, vintages=Vintages())
        for run in past[:-1]:
            sizer.learn(run)
        sizer.allocate(features(past[-1]))
        assert [sizer.weights(r).get("sequence", 0.0) > 0.9 for r in RESOURCES] == [is_followed, is_followed]
        assert (sizer.allocated_by == "sequence") is is_followed


def test_a_canary_in_the_run_itself_is_not_seen() -> None:
    past = runs(25)
    sizer = CurveSizer(4, 128.0, vintages=vintages(network()))
    for run in past[:-1]:
        sizer.learn(run)
    usual, other = past[-1], replace(past[-1], memory=past[-1].memory * 50, cpu=past[-1].cpu * 50)
    model = SequenceCurves(vintages(network()))
    for resource in RESOURCES:
        assert (sizer.quantiles(usual, resource) == sizer.quantiles(other, resource)).all()
        first, second = (model.scenarios(past_of(past[:-1]), features(r), resource) for r in (usual, other))
        assert (first.amount == second.amount).all()


def test_weights_are_asked_only_about_what_came_after_all_that_taught_them() -> None:
    kept = Vintages([Vintage(10.0, network(1)), Vintage(20.0, network(2)), Vintage(15.0, network(3))])
    assert kept.before(9.0) is None
    assert kept.before(10.0) is kept.kept[0].network
    assert kept.before(19.0) is kept.kept[2].network
    assert kept.before(1e9) is kept.kept[1].network


def test_what_is_seen_counts_while_it_may_and_no_run_is_shorter_than_it_was() -> None:
    *before, asked = runs(9)
    past, known = past_of(before), features(asked)
    model = SequenceCurves(vintages(network()))
    usual = float(np.median(past.duration))
    low, high = (model.after(past, known, "memory", 0.1 * asked.duration_s, gib) for gib in (0.01, 1000.0))
    assert low is not None
    assert high is not None
    assert (low.amount != high.amount).any()
    late = model.after(past, known, "memory", 0.5 * asked.duration_s, 1.0)
    assert late is None or late.duration.min() >= 0.5 * asked.duration_s
    assert model.after(past, known, "memory", 100 * usual, 1.0) is None
    assert model.after(past, known, "memory", 0.1 * usual, float("nan")) is None
    assert SequenceCurves(Vintages()).after(past, known, "memory", 0.1 * usual, 1.0) is None


def test_what_is_seen_is_not_believed_where_it_has_not_helped() -> None:
    past = runs(20)
    sizer = CurveSizer(4, 128.0, vintages=vintages(network(loud=0.0, use=5.0)))
    for run in past[:-1]:
        sizer.learn(run)
    known = features(past[-1])
    for resource in RESOURCES:
        blind, seeing = sizer.curve(known, resource), sizer.curve(known, resource, (60.0, 1e-3))
        assert (blind.values == seeing.values).all()


# --------------------------------------------------------------------------- as it is stored


def test_what_is_stored_comes_back_and_gives_the_same() -> None:
    *before, asked = runs(10)
    made = Vintage(12.0, network(), 77)
    back = Vintage.from_bytes(made.to_bytes())
    assert (back.until, back.lessons, back.to_bytes()) == (12.0, 77, made.to_bytes())
    of = told(past_of(before), features(asked), "cpu")
    assert of is not None
    for one, other in zip(made.network.quantiles(of, "cpu"), back.network.quantiles(of, "cpu"), strict=True):
        assert (one == other).all()


def test_what_is_damaged_or_something_else_is_refused() -> None:
    blob = Vintage(12.0, network()).to_bytes()
    odd = replace(network(), shift={"memory": np.zeros((2, 2, len(NODES)))})
    wild = replace(network(), weights=network().weights | {"use.bias": np.full(len(NODES), np.nan)})
    for bad in (b"", blob[:200], b"{}", Vintage(0.0, odd).to_bytes(), Vintage(0.0, wild).to_bytes()):
        with pytest.raises(UnsafeModelError, match="not a sequence model"):
            Vintage.from_bytes(bad)


# --------------------------------------------------------------------------- training


def test_without_torch_teaching_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_teacher, "available", lambda: False)
    with pytest.raises(ConfigError, match="torch is not installed") as caught:
        sequence_teacher.Teacher().teach()
    assert "preprov[torch]" in caught.value.hint


def taught(of: Sequence[UsageRun], seed: int = 0) -> Vintage:
    teacher = sequence_teacher.Teacher(seed)
    for run in of:
        teacher.take("W/P", run)
    assert teacher.is_due
    return teacher.teach()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teaching takes a moment, and is as good as that."""
    monkeypatch.setattr(sequence_teacher, "_STEPS", (20, 20))


@pytest.mark.usefixtures("hasty")
def test_the_same_lessons_give_the_same_weights() -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    past = runs(45)
    torch.manual_seed(1)
    first = taught(past)
    torch.manual_seed(2)
    asked_next = float(torch.rand(1))
    second = taught(past)
    assert first.to_bytes() == second.to_bytes()
    assert taught(past, seed=1).to_bytes() != first.to_bytes()
    torch.manual_seed(2)
    assert float(torch.rand(1)) == asked_next
    assert first.until == past[-1].submitted


@pytest.mark.usefixtures("hasty")
def test_arrays_give_what_torch_gives() -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    made = taught(runs(45)).network
    net = sequence_teacher.module()
    net.load_state_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in made.weights.items()})
    rows = np.random.default_rng(0).normal(size=(BINS, FEATURES))
    with torch.no_grad():
        theirs = sequence_teacher.forward(net, torch.tensor(rows[None], dtype=torch.float32))
    for one, other in zip(made.corrections(rows), theirs, strict=True):
        assert np.abs(one - other[0].numpy()).max() < 1e-5


def test_it_learns_what_the_simple_models_cannot_see() -> None:
    """Every other run takes half as much again: the last one tells which."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    rng = np.random.default_rng(5)
    rows = []
    for i in range(240):
        top = 8.0 * (1.6 if i % 2 else 1.0) * float(rng.lognormal(0, 0.02))
        at = np.arange(50) * 10.0
        rows.append(
            UsageRun("W", "P", float(i), 500.0 * float(rng.lognormal(0, 0.02)), at, np.full(50, top), np.ones(50))
        )
    sizer = CurveSizer(4, 128.0, vintages=Vintages([replace(taught(rows[:200]), until=-np.inf)]))
    for run in rows[200:]:
        sizer.learn(run)
    assert sizer.weights("memory").get("sequence", 0.0) > 0.9


def test_it_learns_what_the_beginning_of_a_run_tells_of_the_rest() -> None:
    """Half of the runs take three times as much, nobody knows which before they begin."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    rng = np.random.default_rng(5)
    rows = []
    for i in range(240):
        top = 2.0 * (3.0 if rng.uniform() < 0.5 else 1.0) * float(rng.lognormal(0, 0.02))
        length = 500.0 * float(rng.lognormal(0, 0.02))
        rows.append(UsageRun("W", "P", float(i), length, np.arange(50) * 10.0, np.full(50, top), np.ones(50)))
    sizer = CurveSizer(4, 128.0, vintages=Vintages([replace(taught(rows[:200]), until=-np.inf)]))
    for run in rows[200:]:
        sizer.learn(run)
    width = [float(np.ptp(sizer.curve(features(rows[0]), "memory").values[32, 1:-2]))]
    for gib in (2.0, 6.0):
        curve = sizer.curve(features(rows[0]), "memory", (60.0, gib))
        assert curve.values[32, 3] == pytest.approx(gib, rel=0.25)
        width.append(float(np.ptp(curve.values[32, 1:-2])))
    assert max(width[1:]) < 0.7 * width[0]


@pytest.mark.usefixtures("hasty")
def test_the_backtest_teaches_as_it_goes_and_foresees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary in the last run: whatever it uses, what is said of it, and of all before it, is the same."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    rows = runs(50)
    asked: dict[int, list[bytes]] = {}
    quantiles = CurveSizer.quantiles
    turn = itertools.count()

    for time in range(2):
        asked[time] = []

        def noted(self: CurveSizer, run: UsageRun, resource: str, at: int = time) -> object:
            out = quantiles(self, run, resource)
            asked[at].append(out.tobytes())
            return out

        monkeypatch.setattr(CurveSizer, "quantiles", noted)
        last = replace(rows[-1], memory=rows[-1].memory * (1 + 99 * next(turn)))
        report = run_curves_backtest([*rows[:-1], last])
        assert report["sequence_vintages"] >= 1
        assert "sequence" in report["members"]
    assert asked[0] == asked[1]
    assert "sequence" not in run_curves_backtest(rows[:10], sequence=False)["members"]
