"""Backtest of right-sizing on an execution trace: our sizer and its peers on the same tasks, by workflow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from preprov.control.processes import in_processes
from preprov.model.errors import ConfigError, ForecastError
from preprov.model.executions import Executions
from preprov.profiles.ours import Ours
from preprov.profiles.peers import PEERS, TovarLadder, WittLR
from preprov.profiles.trial import Method, Tally, Trial, play
from preprov.profiles.waste import Price

# Called with (pieces done, pieces in all).
Progress = Callable[[int, int], None]

OURS: Final = "ours"
SEEDS: Final = 3
NODE_GIB: Final = 128.0
FAILURE_PRICES: Final = (1.0, 2.0, 4.0, 8.0)
"""Tried in this order on the history, until no more attempts fail than Witt-P95's do there."""
PLAIN: Final = "plain"
HALF: Final = "half_time_to_failure"
ENDED: Final = "only_what_had_ended"
PUBLISHED: Final = "as_published"
TRADE_OFF: Final = "trade_off"
_REFERENCE: Final = "witt-p95"
_AS_PUBLISHED: Final[Mapping[str, Callable[[Price], Method]]] = {"witt-lr": WittLR, "tovar": TovarLadder}


Scores = dict[str, float]


@dataclass(frozen=True)
class SizingPlan:
    """How a trace is judged.

    Attributes:
        failure: price of a failure; None = chosen on each workflow's history. time_to_failure: share of the runtime.
        node_gib: the most that a task can ask for; None = 128, or the largest request or peak if that is more.
        seeds: runs of ours, for its forests are random. sensitivity: judge at half the time to failure, and where only
            tasks that had ended teach, as well. trade_off: judge ours at every price too.
    """

    failure: float | None = None
    time_to_failure: float = 1.0
    node_gib: float | None = None
    seeds: int = SEEDS
    sensitivity: bool = True
    trade_off: bool = False


@dataclass(frozen=True)
class _Piece:
    """One way of asking, on one workflow, under one rule."""

    workflow: str
    method: str
    rule: str
    trial: Trial
    held: Price
    judged_by: Price
    seed: int = 0

    def run(self) -> Tally:
        if self.rule == PUBLISHED:
            return play(self.trial.in_hindsight(), _AS_PUBLISHED[self.method](self.held), self.judged_by)
        method = Ours(self.held, self.seed) if self.method == OURS else PEERS[self.method](self.held)
        return play(self.trial, method, self.judged_by, only_ended=self.rule == ENDED)


def run_sizing_backtest(
    executions: Executions,
    plan: SizingPlan | None = None,
    *,
    workflows: Sequence[str] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge our sizer beside presets, Witt-LR, Witt-P95 and Tovar.

    The price of a failure is chosen for each workflow on the part of it that is not judged: the lowest at which no more
    attempts of ours fail there than Witt-P95's.

    Returns:
        {"workflows": {name: {"ours" or peer: {gbh, failures, maq}}}, "details": {name: ...}, "sensitivity": {rule:
        {name: ...}}, "as_published": {name: ...}, "trade_off": {name: [...]}, "node_gib", "summary"}; GB are GiB.

    Raises:
        ConfigError: there is no such workflow. ForecastError: nothing can be judged.
    """
    plan = plan or SizingPlan()
    trials = _trials(executions, workflows)
    node = plan.node_gib or _node(executions)
    price = Price(time_to_failure=plan.time_to_failure, cap=node)
    chosen = {name: _chosen(trial, price, plan.failure) for name, trial in trials.items()}
    pieces = [p for name, trial in trials.items() for p in _pieces(name, trial, plan, chosen[name][0])]
    tallies: dict[tuple[str, str, str], list[tuple[_Piece, Tally]]] = {}
    for done, (piece, tally) in enumerate(_results(pieces, workers), start=1):
        tallies.setdefault((piece.rule, piece.workflow, piece.method), []).append((piece, tally))
        if progress is not None:
            progress(done, len(pieces))
    return _report(trials, chosen, tallies, node)


def _trials(executions: Executions, wanted: Sequence[str]) -> dict[str, Trial]:
    trials = {name: Trial.of(part) for name, part in executions.workflows()}
    for name in wanted:
        if name not in trials:
            raise ConfigError(f"no workflow is called {name!r}", where="--workflow", hint=", ".join(trials))
    trials = {name: trial for name, trial in trials.items() if trial.judged.any() and (not wanted or name in wanted)}
    if not trials:
        raise ForecastError(
            "no workflow can be judged: none has a process with two measured tasks", hint="columns process, peak_rss"
        )
    return trials


def _node(executions: Executions) -> float:
    largest = [np.nanmax(executions.column(c), initial=0.0) for c in ("memory", "peak")]
    return float(max(NODE_GIB, *largest))


def _chosen(trial: Trial, price: Price, asked: float | None) -> tuple[Price, list[Scores]]:
    """The price of a failure, and what each price came to on the history."""
    if asked is not None:
        return replace(price, failure=asked), []
    history = trial.history()
    allowed = play(history, PEERS[_REFERENCE](price), price).failures
    tried: list[Scores] = []
    for failure in FAILURE_PRICES:
        held = replace(price, failure=failure)
        came = play(history, Ours(held), price)
        tried.append({"failure": failure, "gbh": came.wasted, "failures": came.failures, "allowed": allowed})
        if came.failures <= allowed:
            break
    return replace(price, failure=tried[-1]["failure"]), tried


def _pieces(name: str, trial: Trial, plan: SizingPlan, held: Price) -> Iterator[_Piece]:
    judged_by = replace(held, failure=1.0)
    for seed in range(plan.seeds):
        yield _Piece(name, OURS, PLAIN, trial, held, judged_by, seed)
    for peer in PEERS:
        yield _Piece(name, peer, PLAIN, trial, judged_by, judged_by)
    for peer in _AS_PUBLISHED:
        yield _Piece(name, peer, PUBLISHED, trial, judged_by, judged_by)
    if plan.sensitivity:
        half = {"time_to_failure": held.time_to_failure / 2}
        for method in (OURS, *PEERS):
            mine = held if method == OURS else judged_by
            yield _Piece(name, method, HALF, trial, replace(mine, **half), replace(judged_by, **half))
            yield _Piece(name, method, ENDED, trial, mine, judged_by)
    if plan.trade_off:
        for failure in FAILURE_PRICES:
            yield _Piece(name, OURS, TRADE_OFF, trial, replace(held, failure=failure), judged_by)


def _results(pieces: Sequence[_Piece], workers: int) -> Iterator[tuple[_Piece, Tally]]:
    """Each piece with its tally as it is done; the long ones are begun first."""
    ordered = sorted(pieces, key=lambda p: (p.method != OURS, -len(p.trial.tasks)))
    return in_processes(ordered, _Piece.run, workers)


# --------------------------------------------------------------------------- report

Tallies = Mapping[tuple[str, str, str], Sequence[tuple[_Piece, Tally]]]


def _report(
    trials: Mapping[str, Trial], chosen: Mapping[str, tuple[Price, list[Scores]]], tallies: Tallies, node: float
) -> dict[str, Any]:
    workflows = _by_workflow(tallies, PLAIN)
    return {
        "workflows": workflows,
        "summary": {name: _summary(scores) for name, scores in workflows.items()},
        "details": {
            name: {
                "tasks": len(trial.tasks),
                "judged": int(trial.judged.sum()),
                "processes": trial.processes,
                "failure_price": chosen[name][0].failure,
                "chosen_on_history": chosen[name][1],
                "seeds": [_scored(t) for _, t in tallies[PLAIN, name, OURS]],
            }
            for name, trial in trials.items()
        },
        PUBLISHED: _by_workflow(tallies, PUBLISHED),
        "sensitivity": {rule: _by_workflow(tallies, rule) for rule in (HALF, ENDED) if _by_workflow(tallies, rule)},
        TRADE_OFF: {name: _curve(tallies[TRADE_OFF, name, OURS]) for name in _by_workflow(tallies, TRADE_OFF)},
        "node_gib": node,
    }


def _by_workflow(tallies: Tallies, rule: str) -> dict[str, dict[str, Scores]]:
    """Workflow -> method -> the mean over seeds, ours first."""
    out: dict[str, dict[str, Scores]] = {}
    order = [OURS, *PEERS]
    for kind, name, method in sorted(tallies, key=lambda k: (k[1], order.index(k[2]))):
        if kind == rule:
            each = [_scored(t) for _, t in tallies[kind, name, method]]
            out.setdefault(name, {})[method] = {k: float(np.mean([e[k] for e in each])) for k in each[0]}
    return out


def _scored(tally: Tally) -> Scores:
    """GiB hours wasted, failed attempts, memory allocation quality."""
    return {"gbh": tally.wasted, "failures": tally.failures, "maq": tally.maq}


def _curve(rows: Sequence[tuple[_Piece, Tally]]) -> list[Scores]:
    return [{"failure": p.held.failure, **_scored(t)} for p, t in sorted(rows, key=lambda r: r[0].held.failure)]


def _summary(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """The peer that wastes least, chosen with hindsight, and what ours wastes of that."""
    best = min((m for m in scores if m != OURS), key=lambda m: scores[m]["gbh"])
    least = scores[best]["gbh"]
    return {
        "best_peer": best,
        "ratio_vs_best_peer": scores[OURS]["gbh"] / least if least > 0 else None,
        "failures": scores[OURS]["failures"],
        "failures_witt_p95": scores[_REFERENCE]["failures"],
    }
