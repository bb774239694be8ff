"""Backtest of runtimes: CRPS and coverage of ours, of a quantile forest and of requested-time residuals."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ForecastError
from preprov.profiles.curves import foretold
from preprov.profiles.machines import Machines
from preprov.profiles.runtime_members import LEVELS, MEMBERS, PEERS, crps
from preprov.profiles.runtime_rows import Fold, RuntimeRows, folds_by_machine, folds_in_time

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]

HISTORY: Final = 0.3
BLOCKS: Final = 8
MOST: Final = 16_000
OURS: Final = "ours"
_MIXED: Final = (1, 2, 3)
_LEARNT: Final = 0.75
_MOST_INNER: Final = 4_000


def run_runtime_backtest(
    rows: RuntimeRows, *, blocks: int = BLOCKS, most: int = MOST, progress: Progress | None = None
) -> dict[str, Any]:
    """Judge runtimes; in time where the trace has times, else each kind of machine from the others.

    Ours is the mean of the quantiles of one, two or three members: those that would have lost least on the blocks
    before; for the first one, on the last quarter of its history.

    Returns:
        {"methods": {name: {crps_log, crps_s, coverage_80, coverage_90}}, "summary": {...}, "folds": [...],
        "transfer": median errors across machines, None in time}

    Raises:
        ForecastError: nothing can be judged.
    """
    timed = bool(np.isfinite(rows.submitted).all())
    folds = folds_in_time(rows, HISTORY, blocks, most) if timed else folds_by_machine(rows)
    if not folds:
        raise ForecastError("nothing can be judged", hint="submit times, or more than one kind of machine")
    recent = rows.recent()
    told: dict[str, list[Floats]] = {name: [] for name in (OURS, *MEMBERS)}
    chosen: list[tuple[str, ...]] = []
    for i, fold in enumerate(folds):
        members = {name: member(rows, fold, recent) for name, member in MEMBERS.items()}
        mix = _best(told, [rows.log_runtime[f.judged] for f in folds[:i]]) if i else _first(rows, fold, recent)
        chosen.append(mix)
        for name, quantiles in members.items():
            told[name].append(quantiles)
        told[OURS].append(np.mean([members[name] for name in mix], axis=0))
        if progress is not None:
            progress(i + 1, len(folds))
    return _report(rows, folds, told, chosen, timed) | {"transfer": None if timed else _transfer(rows, folds)}


def _transfer(rows: RuntimeRows, folds: Sequence[Fold]) -> dict[str, float]:
    """How far off a single number is for a machine that only a probe of each process is known of.

    What the past of the process elsewhere says of the input size, as `preprov task show` stretches runs; and the same
    without regard to the machine.
    """
    away: dict[str, list[float]] = {"moved": [], "as_it_was": []}
    for fold in folds:
        past, to = fold.history, str(rows.machine[fold.judged[0]])
        kind, seconds = rows.machine[past].astype(str), np.exp(rows.log_runtime[past])
        machines = Machines.learn(rows.exact[past].astype(str).tolist(), kind.tolist(), seconds, rows.log_input[past])
        factor = np.array([machines.factor(of, to) for of in kind])
        for process in np.unique(rows.exact[fold.judged]).tolist():
            mine = rows.exact[past] == process
            judged = fold.judged[rows.exact[fold.judged] == process]
            if not mine.any():
                continue
            for name, took in (("moved", seconds * factor), ("as_it_was", seconds)):
                for row in judged.tolist():
                    expected = foretold(rows.log_input[past][mine], took[mine], float(rows.log_input[row]))
                    away[name].append(abs(expected / float(np.exp(rows.log_runtime[row])) - 1))
    return {name: float(np.median(errors)) for name, errors in away.items()}


def _first(rows: RuntimeRows, fold: Fold, recent: Floats) -> tuple[str, ...]:
    """The best mix on the last quarter of a fold's history."""
    cut = max(1, int(_LEARNT * len(fold.history)))
    inner = Fold(fold.history[:cut], fold.history[cut:][-_MOST_INNER:], fold.name)
    if not len(inner.judged):
        return tuple(MEMBERS)
    told = {name: [member(rows, inner, recent)] for name, member in MEMBERS.items()}
    return _best(told, [rows.log_runtime[inner.judged]])


def _best(told: dict[str, list[Floats]], came: Sequence[Floats]) -> tuple[str, ...]:
    """The members whose mean lost least so far."""
    actual = np.concatenate(came)
    past = {name: np.concatenate(told[name]) for name in MEMBERS}
    mixes = [mix for size in _MIXED for mix in combinations(MEMBERS, size)]
    return min(mixes, key=lambda mix: float(crps(np.mean([past[m] for m in mix], axis=0), actual).mean()))


def _report(
    rows: RuntimeRows,
    folds: Sequence[Fold],
    told: dict[str, list[Floats]],
    chosen: Sequence[tuple[str, ...]],
    timed: bool,
) -> dict[str, Any]:
    actual = [rows.log_runtime[f.judged] for f in folds]
    came = np.concatenate(actual)
    methods = {name: _scores(np.concatenate(parts), came) for name, parts in told.items()}
    best = {key: min(PEERS, key=lambda p: methods[p][key]) for key in ("crps_log", "crps_s")}
    return {
        "methods": {name: methods[name] for name in (OURS, *PEERS)},
        "members": {name: methods[name] for name in MEMBERS if name not in PEERS},
        "summary": {
            "rows": len(rows),
            "judged": len(came),
            "protocol": "in time" if timed else "across machines",
            "best_peer": best["crps_log"],
            "ratio_crps_log": methods[OURS]["crps_log"] / methods[best["crps_log"]]["crps_log"],
            "ratio_crps_s": methods[OURS]["crps_s"] / methods[best["crps_s"]]["crps_s"],
        },
        "folds": [
            {
                "name": fold.name,
                "judged": len(fold.judged),
                "mixed": list(mix),
                "crps_log": {n: _scores(told[n][i], actual[i])["crps_log"] for n in (OURS, *PEERS)},
            }
            for i, (fold, mix) in enumerate(zip(folds, chosen, strict=True))
        ],
    }


def _scores(quantiles: Floats, came: Floats) -> dict[str, float]:
    """In logarithms of seconds, and in seconds relative to the mean; shares within the 80 and 90 % intervals."""
    ordered = np.sort(quantiles, axis=1)
    seconds = np.exp(came)
    inside = {
        f"coverage_{100 * share:.0f}": float(
            np.mean((came >= _at(ordered, 0.5 - share / 2)) & (came <= _at(ordered, 0.5 + share / 2)))
        )
        for share in (0.8, 0.9)
    }
    return {
        "crps_log": float(crps(ordered, came).mean()),
        "crps_s": float(crps(np.exp(ordered), seconds).mean() / seconds.mean()),
        **inside,
    }


def _at(ordered: Floats, level: float) -> Floats:
    """(J, L) -> (J,) between the two levels beside it."""
    place = float(np.interp(level, LEVELS, np.arange(len(LEVELS))))
    low = int(place)
    high = min(low + 1, len(LEVELS) - 1)
    out: Floats = ordered[:, low] * (1 - (place - low)) + ordered[:, high] * (place - low)
    return out
