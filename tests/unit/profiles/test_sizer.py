"""Sizing one signature: what is learnt from its runs, whatever they are like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.profiles.bank import SizerBank
from preprov.profiles.history import WINDOW, Facts, History
from preprov.profiles.sizer import Sizer
from preprov.profiles.waste import Price

PRICE = Price(cap=128.0)


def taught(peaks: list[float], hours: float = 1.0, inputs: list[float] | None = None) -> Sizer:
    sizer = Sizer(PRICE)
    for i, peak in enumerate(peaks):
        sizer.learn(peak, hours, Facts({"input": inputs[i]}) if inputs else Facts())
    return sizer


def test_one_run_is_enough_to_say_something() -> None:
    sized = taught([4.0]).size([Facts()])[0]
    assert 4.0 <= sized.allocation < 4.5
    assert sized.runs == 1


def test_what_always_uses_the_same_is_given_little_more() -> None:
    sized = taught([4.0 + 0.001 * (i % 5) for i in range(40)]).size([Facts()])[0]
    assert 4.004 <= sized.allocation < 4.05


def test_what_follows_its_input_is_given_what_its_input_needs() -> None:
    rng = np.random.default_rng(5)
    inputs = rng.lognormal(20, 1, 60).tolist()
    sizer = taught([1 + 3e-9 * x * float(rng.lognormal(0, 0.02)) for x in inputs], inputs=inputs)
    for size in (2e8, 5e8, 1e9):
        need = 1 + 3e-9 * size
        asked = sizer.size([Facts({"input": size})])[0].allocation
        assert need <= asked < 1.3 * need


def test_an_input_that_says_nothing_does_no_harm() -> None:
    rng = np.random.default_rng(2)
    peaks = rng.normal(10, 0.2, 60).tolist()
    plain = taught(peaks).size([Facts()])[0].allocation
    noisy = taught(peaks, inputs=rng.lognormal(20, 1, 60).tolist()).size([Facts({"input": 1e9})])[0].allocation
    assert noisy == pytest.approx(plain, rel=0.05)


def test_an_input_that_is_not_known_this_time_is_no_error() -> None:
    rng = np.random.default_rng(5)
    inputs = rng.lognormal(20, 1, 30).tolist()
    sizer = taught([1 + 3e-9 * x for x in inputs], inputs=inputs)
    assert sizer.size([Facts(), Facts({"other": 3.0}, frozenset({"x"}))])[0].allocation > 1


def test_many_at_once_are_sized_as_one_by_one() -> None:
    rng = np.random.default_rng(7)
    inputs = rng.lognormal(20, 1, 50).tolist()
    sizer = taught([1 + 3e-9 * x for x in inputs], inputs=inputs)
    asked = [Facts({"input": x}) for x in (1e8, 1e9, 4e9)]
    together = [s.allocation for s in sizer.size(asked)]
    assert together == pytest.approx([sizer.size([f])[0].allocation for f in asked])


def test_a_new_version_that_needs_more_is_met_within_a_few_runs() -> None:
    sizer = taught([2.0] * 60 + [9.0] * 12)
    assert sizer.size([Facts()])[0].allocation >= 9.0


def test_longer_runs_are_sized_with_more_care_than_ones_that_end_at_once() -> None:
    rng = np.random.default_rng(4)
    peaks = rng.lognormal(1, 0.3, 80).tolist()
    short, long = (taught(peaks, hours=h).size([Facts()])[0].allocation for h in (0.001, 5.0))
    assert short >= long  # a failure of a short one costs a restart, its allocation next to nothing


@pytest.mark.parametrize(
    ("peak", "hours"),
    [(float("nan"), 1.0), (0.0, 1.0), (-3.0, 1.0), (float("inf"), 1.0), (4.0, float("nan")), (4.0, -1.0)],
)
def test_what_was_not_measured_teaches_nothing(peak: float, hours: float) -> None:
    sizer = taught([4.0, 5.0])
    assert not sizer.learn(peak, hours)
    assert len(sizer) == 2


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 1e5), st.floats(0, 1e4), st.one_of(st.none(), st.floats(0, 1e15))),
        min_size=1,
        max_size=40,
    )
)
def test_any_runs_give_a_sane_answer(runs: list[tuple[float, float, float | None]]) -> None:
    sizer = Sizer(PRICE)
    for peak, hours, size in runs:
        sizer.learn(peak, hours, Facts({} if size is None else {"input": size}, frozenset({str(int(hours) % 3)})))
    for sized in sizer.size([Facts({"input": 1e9}), Facts()]):
        assert 0 < sized.allocation <= PRICE.cap
        assert sized.p50 <= sized.p99
        assert np.isfinite(sized.hours)


def test_a_history_keeps_the_last_runs_only() -> None:
    history = History()
    for i in range(5 * WINDOW):
        history.add(float(i + 1), 1.0, Facts({f"n{i % 90}": float(i)}, frozenset({f"w{i}"})))
    assert WINDOW <= len(history) <= 2 * WINDOW
    assert history.peak[-1] == 5 * WINDOW
    assert history.numbers.shape[1] <= 24
    assert history.words.shape[1] <= 48


def test_a_number_met_late_is_unknown_of_what_came_before() -> None:
    history = History()
    history.add(1.0, 1.0, Facts({"a": 1.0}))
    history.add(2.0, 1.0, Facts({"a": 1.0, "b": 1.0}))
    column = history.numbers[:, history.names["b"]]
    assert np.isnan(column[0])
    assert column[1] == pytest.approx(np.log(2))


def test_ten_thousand_new_signatures_are_kept_within_bounds() -> None:
    bank = SizerBank(PRICE, most=500)
    for i in range(10_000):
        assert bank.learn(f"tenant/dag/task-{i}", 2.0, 0.1, Facts())
    assert len(bank) == 500
    assert bank.size("tenant/dag/task-9999", Facts()) is not None
    assert bank.size("tenant/dag/task-1", Facts()) is None
