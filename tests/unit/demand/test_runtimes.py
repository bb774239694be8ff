import numpy as np
import pandas as pd
import pytest

from preprov.demand.runtimes import RuntimeModel
from tests.unit.demand.work import AT, HOUR, Run, Task, history, instant, table

RNG = 12


def drawn(
    model: RuntimeModel, signature: str, *, hint: float = np.nan, elapsed: float = 0.0, n: int = 4000
) -> np.ndarray:
    tasks = pd.DataFrame({"signature": [signature], "hint_s": [hint]})
    return model.draw(tasks, np.array([elapsed]), n, np.random.default_rng(RNG))[0]


def lognormal_runs(signature: str, median: float, spread: float, n: int, seed: int = 1) -> list[Run]:
    rng = np.random.default_rng(seed)
    runtimes = median * np.exp(spread * rng.standard_normal(n))
    return [
        Run(f"{signature}#{i}", "d", -(i + 1) * HOUR * 3, [Task("t", float(r), signature=signature)])
        for i, r in enumerate(runtimes)
        if r < (i + 1) * HOUR * 3
    ]


def test_a_signature_with_much_history_is_drawn_as_it_was() -> None:
    model = RuntimeModel.learn(table(lognormal_runs("d/t", 300, 0.4, 200)), AT)
    found = drawn(model, "d/t")
    assert np.median(found) == pytest.approx(300, rel=0.12)
    assert np.std(np.log(found)) == pytest.approx(0.4, rel=0.2)


def test_a_signature_never_seen_takes_its_nearest_path() -> None:
    runs = lognormal_runs("d/load/a", 50, 0.1, 40) + lognormal_runs("d/train/a", 5000, 0.1, 40, seed=2)
    model = RuntimeModel.learn(table(runs), AT)
    assert np.median(drawn(model, "d/load/new")) == pytest.approx(50, rel=0.2)
    assert np.median(drawn(model, "d/train/new/deeper")) == pytest.approx(5000, rel=0.2)
    both = drawn(model, "d/other")
    assert (both < 200).any()
    assert (both > 2000).any()


def test_one_observation_leans_on_its_siblings_where_these_agree() -> None:
    runs = [run for i in range(20) for run in lognormal_runs(f"d/t{i}", 100, 0.3, 10, seed=i)]
    odd = Run("odd", "d", -5 * HOUR, [Task("t", 1000.0, signature="d/odd")])
    model = RuntimeModel.learn(table([*runs, odd]), AT)
    assert 100 < np.median(drawn(model, "d/odd")) < 700


def test_one_observation_is_believed_where_siblings_differ() -> None:
    runs = [run for i in range(20) for run in lognormal_runs(f"d/t{i}", 10.0 * 1.7**i, 0.05, 10, seed=i)]
    odd = Run("odd", "d", -5 * HOUR, [Task("t", 1000.0, signature="d/odd")])
    model = RuntimeModel.learn(table([*runs, odd]), AT)
    assert np.median(drawn(model, "d/odd")) == pytest.approx(1000, rel=0.1)


def test_a_hint_counts_where_nothing_is_known_and_for_what_hints_were_worth() -> None:
    rng = np.random.default_rng(3)
    runs = [
        Run(f"r{i}", "d", -3600.0 * (i + 2), [Task("t", float(h / 3), hint=float(h), signature="d/t")])
        for i, h in enumerate(rng.uniform(100, 3000, 60))
    ]
    model = RuntimeModel.learn(table(runs), AT)
    assert np.median(drawn(model, "elsewhere/t", hint=9000.0)) == pytest.approx(3000, rel=0.15)
    own = drawn(model, "d/t", hint=9000.0)
    assert np.median(own) < 2000


def test_without_any_history_a_hint_is_believed_and_nothing_is_wide() -> None:
    model = RuntimeModel.learn(table([]), AT)
    assert np.median(drawn(model, "x", hint=120.0)) == pytest.approx(120, rel=0.05)
    unknown = drawn(model, "x")
    assert np.quantile(unknown, 0.95) > 5 * np.quantile(unknown, 0.05) > 0


def test_what_has_run_so_long_runs_at_least_so_long() -> None:
    model = RuntimeModel.learn(table(lognormal_runs("d/t", 300, 0.4, 200)), AT)
    for elapsed in (1.0, 200.0, 450.0, 900.0, 5000.0):
        assert drawn(model, "d/t", elapsed=elapsed).min() >= elapsed
    fresh, late = drawn(model, "d/t"), drawn(model, "d/t", elapsed=450.0)
    expected = fresh[fresh > 450.0]
    assert np.median(late) == pytest.approx(np.median(expected), rel=0.1)
    # Beyond everything ever seen, the time that remains grows with the time it has run.
    assert np.median(drawn(model, "d/t", elapsed=50_000.0) - 50_000) > np.median(
        drawn(model, "d/t", elapsed=5_000.0) - 5_000
    )


def test_tasks_that_are_skipped_now_and_then_are_drawn_so() -> None:
    runs = [
        Run(f"r{i}", "d", -3600.0 * (i + 2), [Task("t", 0.0 if i % 4 == 0 else 100.0 + i, signature="d/t")])
        for i in range(80)
    ]
    model = RuntimeModel.learn(table(runs), AT)
    assert (drawn(model, "d/t") == 0).mean() == pytest.approx(0.25, abs=0.06)


def test_newer_runs_count_more() -> None:
    old = [Run(f"o{i}", "d", -200 * 24 * HOUR - i * HOUR, [Task("t", 100.0, signature="d/t")]) for i in range(60)]
    new = [Run(f"n{i}", "d", -24 * HOUR - i * HOUR, [Task("t", 400.0, signature="d/t")]) for i in range(20)]
    model = RuntimeModel.learn(table(old + new), AT)
    assert np.median(drawn(model, "d/t")) == pytest.approx(400, rel=0.1)


def test_only_what_had_ended_is_learnt_from() -> None:
    runs = lognormal_runs("d/t", 300, 0.4, 50)
    later = Run("later", "d", 60.0, [Task("t", 1e6, signature="d/t")])
    running = Run("running", "d", -60.0, [Task("t", 1e6, signature="d/t")])
    failed = Run(
        "failed", "d", -600.0, [Task("t", np.nan, started=-500.0, ended=-400.0, signature="d/t")], timing="observed"
    )
    model = RuntimeModel.learn(table([*runs, later, running, failed]), AT)
    assert model.n_tasks == len(table(runs))
    assert np.array_equal(drawn(model, "d/t"), drawn(RuntimeModel.learn(table(runs), AT), "d/t"))
    assert RuntimeModel.learn(table([*runs, running]), instant(2e6)).n_tasks == len(runs) + 1


def test_runs_alike_tell_each_others_runtimes() -> None:
    """One DAG, two shapes: the same task takes a minute in the small one and an hour in the large one."""
    small = [Task("a", 60.0, signature="d/a"), Task("b", 10.0, ("a",), signature="d/b")]
    large = [Task("a", 3600.0, signature="d/a"), *(Task(f"b{i}", 10.0, ("a",), signature="d/b") for i in range(5))]
    runs = [Run(f"r{i}", "d", -24.0 * HOUR * (i + 1), small if i % 2 else large) for i in range(20)]
    model = RuntimeModel.learn(table(runs), AT)
    from preprov.demand.shapes import place_keys

    wanted = table([Run("s", "d", -1.0, small), Run("l", "d", -1.0, large)])
    tasks = wanted.tasks
    places = place_keys(tasks["signature"], tasks["run"].to_numpy())
    found = model.tables(tasks["signature"], tasks["hint_s"].to_numpy(), places).quantile(0.5)
    assert found[0] == pytest.approx(60, rel=0.3)
    assert found[2] == pytest.approx(3600, rel=0.3)


def test_tasks_of_a_run_that_grow_together_are_known_to() -> None:
    rng = np.random.default_rng(5)
    runs = []
    for i in range(60):
        size = float(np.exp(0.5 * rng.standard_normal()))
        own = np.exp(0.2 * rng.standard_normal(6))
        tasks = [Task(f"t{k}", float(100 * size * own[k])) for k in range(6)]
        runs.append(Run(f"r{i}", "together", -6.0 * HOUR * (i + 1), tasks))
    apart = history("apart", [Task(f"t{k}", 100.0) for k in range(6)], days=60, spread=0.4)
    model = RuntimeModel.learn(table(runs + apart), AT)
    together, loose = model.shares(["together", "apart"])
    assert together == pytest.approx(0.5**2 / (0.5**2 + 0.2**2), abs=0.12)
    assert loose < 0.3
