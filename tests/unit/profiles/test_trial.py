"""The protocol, the peers, and that nothing is known too early."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from preprov.model.executions import AFTER_THE_RUN, Executions
from preprov.profiles.history import Facts
from preprov.profiles.kin import INPUT, WRITTEN, facts, words_of
from preprov.profiles.ours import Ours
from preprov.profiles.peers import PEERS, Presets, Tovar, TovarLadder, WittLR, WittPercentile
from preprov.profiles.trial import Ended, Task, Trial, play
from preprov.profiles.waste import Price
from tests.unit.profiles.runs import START, executions, pipeline

PRICE = Price(cap=128.0, restart_h=0.0)


def ended(peak: float, hours: float = 1.0, size: float | None = None, request: float = 8.0) -> Ended:
    return Ended(Task("P", request, Facts({} if size is None else {INPUT: size})), peak, hours, float("nan"))


# --------------------------------------------------------------------------- protocol


def test_the_first_three_tenths_of_each_process_are_history() -> None:
    rows = [{"process": p} for p in "AAAAAAAAAA" + "B" + "CC" + "DDDD"]
    trial = Trial.of(executions(rows))
    judged = pd.Series(trial.judged).groupby([t.process for t in trial.tasks]).sum()
    assert judged.to_dict() == {"A": 7, "B": 0, "C": 1, "D": 2}


def test_presets_waste_what_they_ask_for_and_do_not_use() -> None:
    tally = play(Trial.of(executions([{}] * 10)), Presets(PRICE), PRICE)
    assert tally.wasted == pytest.approx(7 * 4.0 / 6)
    assert tally.used == pytest.approx(7 * 4.0 / 6)
    assert (tally.failures, tally.tasks, tally.maq) == (0, 7, pytest.approx(0.5))


def test_what_was_not_measured_is_left_out() -> None:
    trial = Trial.of(executions([{"peak": np.nan if i % 2 else 4.0} for i in range(10)]))
    assert len(trial.tasks) == 5


def test_only_what_had_ended_teaches_if_so_wished() -> None:
    """Ten tasks that run at the same time know nothing of each other."""
    trial = Trial.of(executions([{"submitted": START + i, "runtime_s": 3600.0} for i in range(10)]))

    class Curious(Presets):
        known = 0

        def ask(self, task: Task) -> float:
            Curious.known = max(Curious.known, sum(map(len, self._ended.values())))
            return super().ask(task)

    play(trial, Curious(PRICE), PRICE, only_ended=True)
    assert Curious.known == 0
    play(trial, Curious(PRICE), PRICE)
    assert Curious.known == 9


# --------------------------------------------------------------------------- peers, against their papers


def test_the_percentile_is_that_of_the_peaks_so_far() -> None:
    peer = WittPercentile(PRICE)
    for peak in range(1, 101):
        peer.learn(ended(float(peak)))
    assert peer.ask(ended(1.0).task) == pytest.approx(95.05)
    assert peer.retry(ended(1.0).task, 3.0) == 6.0


def test_the_line_is_least_squares_and_one_standard_deviation() -> None:
    sizes, peaks = [1e9, 2e9, 3e9, 4e9], [1.1, 1.9, 3.2, 3.8]
    peer = WittLR(PRICE)
    for size, peak in zip(sizes, peaks, strict=True):
        peer.learn(ended(peak, size=size))
    slope, level = np.polyfit(sizes, peaks, 1)
    sigma = (np.array(peaks) - slope * np.array(sizes) - level).std()
    assert peer.ask(ended(0.0, size=6e9).task) == pytest.approx(slope * 6e9 + level + sigma)
    assert peer.ask(ended(0.0).task) == pytest.approx(np.mean(peaks) + np.std(peaks))


def taught(make: Any, peaks: list[float], sizes: list[float] | None = None) -> Any:
    peer = make(PRICE)
    for i, peak in enumerate(peaks):
        peer.learn(ended(peak, size=sizes[i] if sizes else None))
    return peer


def test_cases_reckoned_by_hand() -> None:
    """Percentile: 1 + .95 x 3. Line through (1, 1), (2, 3), (3, 2): 1 + x / 2, errors -.5, 1, -.5. Tovar: see below."""
    task = ended(0.0, size=4.0).task
    assert taught(WittPercentile, [1.0, 2.0, 3.0, 4.0]).ask(task) == pytest.approx(3.85)
    assert taught(WittLR, [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]).ask(task) == pytest.approx(3 + 0.5**0.5)
    # a E[t] + a_max E[t; peak > a]: 1 -> 3 + 20, 2 -> 6 + 10, 10 -> 30
    assert taught(Tovar, [10.0, 1.0, 2.0]).ask(task) == 2.0
    # 1 -> 3 + 20, 9 -> 27 + 10, 10 -> 30
    assert taught(Tovar, [9.0, 1.0, 10.0]).ask(task) == 1.0


def test_a_line_below_zero_is_no_answer() -> None:
    peer = WittLR(PRICE)
    for size, peak in ((1e9, 9.0), (2e9, 5.0), (3e9, 1.0)):
        peer.learn(ended(peak, size=size))
    assert peer.ask(ended(0.0, size=9e9).task) == 9.0


def test_the_first_allocation_minimises_equation_one() -> None:
    rng = np.random.default_rng(0)
    peaks, hours = rng.lognormal(1, 0.7, 50), rng.lognormal(0, 0.5, 50)
    peer = Tovar(PRICE)
    for peak, hour in zip(peaks, hours, strict=True):
        peer.learn(ended(float(peak), float(hour)))
    cost = [a * hours.sum() + peaks.max() * hours[peaks > a].sum() for a in peaks]
    assert peer.ask(ended(1.0).task) == pytest.approx(peaks[int(np.argmin(cost))])
    assert TovarLadder.retry(peer, ended(1.0).task, 1.0) == peaks.max()  # type: ignore[arg-type]


def test_where_nothing_has_ended_what_was_asked_for_is_given() -> None:
    for make in (*PEERS.values(), Ours):
        assert make(PRICE).ask(Task("new", 8.0, Facts())) == 8.0
        assert make(PRICE).ask(Task("new", float("nan"), Facts())) == PRICE.cap


def test_hindsight_is_the_bytes_that_the_run_itself_reads() -> None:
    trial = Trial.of(executions([{"read_bytes": 7.0 + i} for i in range(3)]))
    assert [t.facts.numbers for t in trial.tasks] == [{}] * 3
    assert [t.facts.numbers[INPUT] for t in trial.in_hindsight().tasks] == [7.0, 8.0, 9.0]


# --------------------------------------------------------------------------- what is known before a run


def test_what_an_earlier_task_of_the_sample_wrote_is_the_input_of_the_next() -> None:
    rows = [
        {"process": "A", "tag": "S1", "submitted": START, "runtime_s": 50.0, "written_bytes": 700.0},
        {"process": "A", "tag": "S2", "submitted": START, "runtime_s": 500.0, "written_bytes": 900.0},
        {"process": "B", "tag": "x-S1.fa.gz", "submitted": START + 60.0, "written_bytes": 5.0},
        {"process": "B", "tag": "S2", "submitted": START + 60.0},
    ]
    known = facts(executions(rows))
    assert known[2].numbers == {"A written": 700.0, "A seconds": 50.0, INPUT: 700.0, WRITTEN: 700.0}
    assert known[2].words == {"x", "S1"}
    assert known[3].numbers == {}  # its A still runs


def test_an_input_that_the_trace_knows_is_taken_as_it_is() -> None:
    assert facts(executions([{"input_bytes": 42.0}]))[0].numbers == {INPUT: 42.0}


def test_words_of_a_tag() -> None:
    assert words_of("SPAdes-MetaBAT2-ERR26.7.fa.gz") == {"SPAdes", "MetaBAT2", "ERR26", "7"}
    assert words_of("-") == frozenset()


class Spy(Ours):
    """What ours asks for, task by task."""

    def __init__(self, price: Price) -> None:
        super().__init__(price)
        self.asked: list[float] = []

    def ask(self, task: Task) -> float:
        self.asked.append(super().ask(task))
        return self.asked[-1]


def asked(ran: Executions) -> list[float]:
    spy = Spy(PRICE)
    play(Trial.of(ran), spy, PRICE)
    return spy.asked


@pytest.mark.parametrize("column", AFTER_THE_RUN)
def test_the_canary_nothing_that_only_the_run_itself_can_tell_reaches_its_size(column: str) -> None:
    """Whatever the last task of the trace is going to do, it is given the same."""
    ran = pipeline(20)
    usual = asked(ran)
    frame = ran.frame.copy()
    last = int(np.argmax(frame["submitted"].to_numpy()))
    assert last == len(frame) - 1
    for planted in (1e-3, 1e3, 1e12):
        frame.loc[last, column] = planted
        assert asked(Executions(frame)) == usual


def test_what_all_tasks_read_reaches_nothing_at_all() -> None:
    ran = pipeline(20)
    told = Executions(ran.frame.assign(read_bytes=ran.frame["peak"] * 1e9))
    assert asked(told) == asked(ran)


def test_ours_sizes_by_what_was_written_before_and_wastes_less_than_any_peer() -> None:
    trial = Trial.of(pipeline(60, seed=1))
    mine = play(trial, Ours(PRICE), PRICE)
    for make in PEERS.values():
        theirs = play(trial, make(PRICE), PRICE)
        assert mine.wasted < theirs.wasted
    assert mine.failures <= play(trial, WittPercentile(PRICE), PRICE).failures


def test_the_same_seed_asks_for_the_same(request: Any) -> None:
    trial = Trial.of(pipeline(40))
    assert play(trial, Ours(PRICE, 3), PRICE) == play(trial, Ours(PRICE, 3), PRICE)
