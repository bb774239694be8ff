"""Ways to foretell runtimes, each as quantiles of the logarithm of seconds; and the mix that is chosen by past loss.

Peers: `request`, the residuals of what was asked for; `forest`, a quantile forest (Meinshausen 2006) on what a task
says of itself. Ours mixes them with `forest-recent`, a forest that also knows the last runtimes of the signature and
its kin, `kin`, the past of the signature, shrunk to its kin's and everybody's where it is short, and `line`, a line
through input size with a level for each process and machine (the idea of Lotaru: Bader et al. 2022).
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.curves import weighted_quantiles
from preprov.profiles.runtime_rows import Fold, RuntimeRows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS: Final = (np.arange(20) + 0.5) / 20
"""Of equal mass: twice the mean pinball loss over them is the CRPS, but for the rounding."""
_MOST_ROWS: Final = 20_000
_TREES: Final = 60
_LEAF: Final = 5
_RECENT: Final = 40
_BORROWED: Final = 4.0
_FEWEST: Final = 10
_PASSES: Final = 8

Member = Callable[[RuntimeRows, Fold, Floats], Floats]
"""Rows, which of them, (N, F) recent runtimes -> (J, L) quantiles of log seconds."""


def request(rows: RuntimeRows, fold: Fold, recent: Floats) -> Floats:
    """What was asked for and how the past came out against it, by the size of the request; else the process's past."""
    past = fold.history[-_MOST_ROWS:]
    asked, ask = rows.log_request[past], rows.log_request[fold.judged]
    if not np.isfinite(asked).any():
        return _by_group(rows.exact[past], rows.log_runtime[past], rows.exact[fold.judged])
    known = np.isfinite(asked)
    group, mine = (
        np.where(np.isfinite(a), np.round(2 * np.nan_to_num(a)), -1.0).astype(np.int64) for a in (asked, ask)
    )
    residual = _by_group(group[known], (rows.log_runtime[past] - asked)[known], mine)
    plain = weighted_quantiles(rows.log_runtime[past], np.ones(len(past)), LEVELS)
    return np.where(np.isfinite(ask)[:, None], np.nan_to_num(ask)[:, None] + residual, plain)


def forest(rows: RuntimeRows, fold: Fold, recent: Floats) -> Floats:
    """A quantile forest on what a task says of itself."""
    return _forest(rows.said(), rows, fold)


def forest_recent(rows: RuntimeRows, fold: Fold, recent: Floats) -> Floats:
    """One that also knows the last runtimes."""
    return _forest(np.hstack([rows.said(), recent]), rows, fold)


def kin(rows: RuntimeRows, fold: Fold, recent: Floats) -> Floats:
    """The last runs of the signature, of its kin and of all, the nearer as much more as there are of them."""
    past = fold.history[-_MOST_ROWS:]
    everybody = weighted_quantiles(rows.log_runtime[past], np.ones(len(past)), LEVELS)
    out = np.broadcast_to(everybody, (len(fold.judged), len(LEVELS)))
    for key in (rows.kin, rows.exact):
        found, count = _recent_quantiles(key[past], rows.log_runtime[past], key[fold.judged])
        share = (count / (count + _BORROWED))[:, None]
        out = np.where(count[:, None] > 0, share * found + (1 - share) * out, out)
    return out


def line(rows: RuntimeRows, fold: Fold, recent: Floats) -> Floats:
    """Log seconds = process + slope of the process x log input + machine of the process, by turns; residuals on top.

    Residuals are those without the level of the process on its machine, which one probe may have decided.
    """
    past = fold.history[-_MOST_ROWS:]
    x = np.nan_to_num(rows.log_input, nan=float(np.nanmean(rows.log_input[past])) if _known(rows, past) else 0.0)
    y = rows.log_runtime[past]
    groups = rows.exact
    place = rows.machine + groups * (int(rows.machine.max()) + 1)
    machine, common, expected = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    for _ in range(_PASSES if np.ptp(rows.machine[past]) else 1):
        expected = _lines(groups, x, y - machine[past], past)
        common = _levels(rows.machine, y - expected[past], past, 0.0)
        machine = common + _levels(place, y - expected[past] - common[past], past, 1.0)
    residual = y - expected[past] - common[past]
    mine = fold.judged
    return (expected + machine)[mine][:, None] + _by_group(groups[past], residual, groups[mine])


PEERS: Final[Mapping[str, Member]] = {"request": request, "forest": forest}
MEMBERS: Final[Mapping[str, Member]] = {**PEERS, "forest-recent": forest_recent, "kin": kin, "line": line}


def _known(rows: RuntimeRows, past: Ints) -> bool:
    return bool(np.isfinite(rows.log_input[past]).any())


def _forest(known: Floats, rows: RuntimeRows, fold: Fold) -> Floats:
    from quantile_forest import RandomForestQuantileRegressor

    past = fold.history[-_MOST_ROWS:]
    filled = np.where(np.isfinite(known), known, -1.0)
    grown = RandomForestQuantileRegressor(_TREES, min_samples_leaf=_LEAF, max_features=0.5, random_state=0, n_jobs=1)
    grown.fit(filled[past], rows.log_runtime[past])
    out: Floats = np.asarray(grown.predict(filled[fold.judged], quantiles=LEVELS.tolist()), dtype=np.float64)
    return out


def _by_group(group: Ints, value: Floats, wanted: Ints) -> Floats:
    """(n,) groups and values, (J,) -> (J, L) quantiles of the group, or of all where it has few."""
    out = np.tile(weighted_quantiles(value, np.ones(len(value)), LEVELS), (len(wanted), 1))
    for name in np.unique(wanted).tolist():
        mine = value[group == name]
        if len(mine) >= _FEWEST:
            out[wanted == name] = weighted_quantiles(mine, np.ones(len(mine)), LEVELS)
    return out


def _recent_quantiles(group: Ints, value: Floats, wanted: Ints) -> tuple[Floats, Floats]:
    """As `_by_group`, of the last so many; (J,) how many there were."""
    out, count = np.zeros((len(wanted), len(LEVELS))), np.zeros(len(wanted))
    order = np.argsort(group, kind="stable")
    group, value = group[order], value[order]
    for name in np.unique(wanted).tolist():
        low, high = np.searchsorted(group, [name, name + 1])
        mine = value[max(low, high - _RECENT) : high]
        if len(mine):
            out[wanted == name] = weighted_quantiles(mine, np.ones(len(mine)), LEVELS)
            count[wanted == name] = len(mine)
    return out, count


def _lines(group: Ints, x: Floats, y: Floats, past: Ints) -> Floats:
    """(N,) least squares on (N,) x by group, y (H,) of the past rows; slopes held to 0 where there is little."""
    size = int(group.max()) + 1
    g, at = group[past], x[past]
    count = np.bincount(g, minlength=size)
    mean_x, mean_y = (np.bincount(g, v, size) / np.maximum(count, 1) for v in (at, y))
    away = at - mean_x[g]
    slope = np.bincount(g, away * (y - mean_y[g]), size) / (np.bincount(g, away**2, size) + 0.1)
    level = np.where(count > 0, mean_y, y.mean())
    out: Floats = level[group] + slope[group] * np.where(count[group] > 0, x - mean_x[group], 0.0)
    return out


def _levels(group: Ints, y: Floats, past: Ints, shrink: float) -> Floats:
    """(N,) mean of (H,) y by group, shrunk to 0 as if so many more were there."""
    size = int(group.max()) + 1
    total, count = np.bincount(group[past], y, size), np.bincount(group[past], minlength=size)
    out: Floats = (total / np.maximum(count + shrink, 1e-9))[group]
    return out


def crps(quantiles: Floats, came: Floats) -> Floats:
    """(J, L) at LEVELS, (J,) -> (J,) continuous ranked probability score, as twice the mean pinball loss."""
    away = came[:, None] - quantiles
    out: Floats = 2 * np.maximum(LEVELS * away, (LEVELS - 1) * away).mean(axis=1)
    return out
