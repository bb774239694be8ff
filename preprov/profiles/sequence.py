"""A sequence model of use over time, learnt over all signatures: a small GRU (Cho et al. 2014) that corrects the past.

What the scaled past of a signature says of a new run, bin by bin, is what the network reads; what it gives is by how
much each quantile of use in each bin, and of the runtime, lies off that, in units of the past's own spread. So one set
of weights serves signatures of any size, and where the past never varied, that is what is foretold. It is trained by
`sequence_teacher` (needs torch); asked it is as plain arrays, here.

Nothing is foretold by weights that may have seen it: each vintage is used only for runs that began after all that it
was taught by.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import UnsafeModelError
from preprov.profiles.aligned import BINS, LEAST, RESOURCES, AlignedRuns
from preprov.profiles.curves import History, Scaled, Scenarios

Floats = NDArray[np.float64]

FORMAT: Final = "preprov-sequence/1"
MASS: Final = np.array([0.05, 0.1, 0.2, 0.3, 0.2, 0.09, 0.04, 0.02])
NODES: Final = np.cumsum(MASS) - MASS / 2
"""(Q,) levels that the network gives, and how much of the whole each stands for."""
FEWEST: Final = 5
"""Past runs of a signature below which the past is taken as it was."""
FEATURES: Final = 21
_BEFORE: Final = np.array([0.1, 0.5, 0.9])
_OUTER: Final = 5.0
_LEAST_SHARE: Final = 0.25
"""A bin's spread is at least this share of that of all bins."""
_CONSTANT: Final = 1e-9
SEEN_AT: Final = 0.1
"""Share of the usual runtime after which what a run uses is looked at, to foretell the rest of it."""
SEEN_UNTIL: Final = 0.6
"""Share of its expected length up to which what a run uses tells something of the rest."""
FARTHEST: Final = 3.0
"""Spreads that the network may move a quantile by."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the past of a signature says of one run, as the network is told it.

    Attributes:
        rows: (BINS, FEATURES). center, scale: (BINS,) logarithms of amounts. prior: (BINS, Q) in scales off the center.
        length: median of log s; spread of it; (Q,) prior quantiles in spreads off it.
    """

    rows: Floats
    center: Floats
    scale: Floats
    prior: Floats
    length: float
    length_spread: float
    length_prior: Floats

    def seen(self, share: float, log_amount: float) -> "Told":
        """Of one that has run for a share of its expected length, and uses so much (a logarithm) now."""
        at = min(int(share * BINS), BINS - 1)
        rows = self.rows.copy()
        rows[:, -2] = np.clip((log_amount - self.center[at]) / max(self.scale[at], _CONSTANT), -_OUTER, _OUTER)
        rows[:, -1] = share
        return replace(self, rows=rows)


def told(past: AlignedRuns, known: Floats, resource: str) -> Told | None:
    """Of a run of which (F,) is known; None where too few past runs were observed."""
    watched = past.where(np.atleast_1d(np.isfinite(past.curves[resource]).all(axis=1)))
    n = len(watched)
    if n < FEWEST:
        return None
    likely = Scaled().scenarios(watched, known, resource)
    logs, raw = (np.log(np.maximum(a, LEAST)) for a in (likely.amount, watched.curves[resource]))
    center = np.median(logs, axis=0)
    spread = np.sqrt(np.square(logs - center).mean(axis=0))
    overall = float(np.sqrt(np.square(spread).mean()))
    scale = np.maximum(spread, _LEAST_SHARE * overall) if overall > _CONSTANT else np.zeros(BINS)
    unit = np.where(scale > 0, scale, 1.0)
    lengths = np.log(likely.duration)
    length, length_spread = float(np.median(lengths)), float(lengths.std())
    off = (_quantiles(logs, NODES).T - center[:, None]) / unit[:, None]
    before = (_quantiles(raw, _BEFORE).T - center[:, None]) / unit[:, None]
    level = center.mean()
    bins = np.column_stack(
        [
            off[:, [1, 3, 5]],
            before,
            (logs[-1] - center) / unit,
            (logs[-3:].mean(axis=0) - center) / unit,
            np.log(unit / max(overall, _CONSTANT)),
            center - level,
            np.diff(center, prepend=center[:1]),
            np.linspace(-1.0, 1.0, BINS),
        ]
    )
    sizes = watched.known[:, 0]
    has_size = bool(np.isfinite(sizes).sum() >= FEWEST and np.isfinite(known[0]))
    away = (known[0] - np.nanmean(sizes)) / max(float(np.nanstd(sizes)), 0.05) if has_size else 0.0
    whole = [
        away,
        float(has_size),
        np.log(n) / 5,
        float(resource == RESOURCES[0]),
        length / 10,
        np.log(length_spread + 1e-3) / 3,
        np.log(overall + 1e-3) / 3,
    ]
    rows = np.hstack([bins, np.tile(whole, (BINS, 1)), np.zeros((BINS, 2))])
    return Told(
        np.clip(rows, -_OUTER, _OUTER),
        center,
        scale,
        off,
        length,
        length_spread,
        (_quantiles(lengths, NODES) - length) / max(length_spread, _CONSTANT),
    )


def _quantiles(values: Floats, levels: Floats) -> Floats:
    """(n, ...) and (K,) -> (K, ...), between the k-th at (k - 1/2) / n (Hazen 1914)."""
    rows, n = np.sort(values, axis=0), len(values)
    at = np.clip(levels * n - 0.5, 0, n - 1)
    low = np.minimum(at.astype(np.int64), max(n - 2, 0))
    part = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    out: Floats = rows[low] * (1 - part) + rows[np.minimum(low + 1, n - 1)] * part
    return out


@dataclass(frozen=True)
class Network:
    """Weights of one layer of gated recurrent units, read from both ends, and of the two layers that read it.

    Attributes:
        weights: by name, as torch names them: gru.*, use.*, length.*.
        shift: resource -> (2, 2, Q) in spreads: before a run and with its beginning seen, by how much quantiles of use,
            and of the runtime, fell short of what came in lessons that were kept aside.
    """

    weights: Mapping[str, Floats]
    shift: Mapping[str, Floats]

    def quantiles(self, of: Told, resource: str) -> tuple[Floats, Floats]:
        """(Q, BINS) amounts, and (Q,) s: rising with the level, at NODES."""
        use, length = self.corrections(of.rows)
        shift = self.shift[resource][int(of.rows[0, -1] > 0)]
        amount = np.sort(of.prior + use + shift[0], axis=1)
        seconds = np.sort(of.length_prior + length + shift[1])
        return (
            np.exp(of.center + of.scale * amount.T),
            np.exp(of.length + of.length_spread * seconds),
        )

    def corrections(self, rows: Floats) -> tuple[Floats, Floats]:
        """(BINS, FEATURES) -> (BINS, Q) and (Q,), in spreads."""
        w, hidden = self.weights, self._hidden(rows)
        use = FARTHEST * np.tanh(hidden @ w["use.weight"].T + w["use.bias"])
        length = FARTHEST * np.tanh(hidden.mean(axis=0) @ w["length.weight"].T + w["length.bias"])
        return use, length

    def _hidden(self, rows: Floats) -> Floats:
        """(BINS, FEATURES) -> (BINS, 2 H): from both ends at once."""
        into, turn, bias = self._ends
        given = np.hstack([rows, rows[::-1]]) @ into[:-1] + into[-1]
        both = turn.shape[0]
        state = np.zeros(both)
        out = np.empty((len(rows), both))
        for i, told_now in enumerate(given):
            own = state @ turn + bias
            gates = 0.5 + 0.5 * np.tanh((told_now[: 2 * both] + own[: 2 * both]) / 2)
            new = np.tanh(told_now[2 * both :] + gates[:both] * own[2 * both :])
            state = new + gates[both:] * (state - new)
            out[i] = state
        return np.hstack([out[:, : both // 2], out[::-1, both // 2 :]])

    @cached_property
    def _ends(self) -> tuple[Floats, Floats, Floats]:
        """Weights of both directions side by side, gate by gate: (2 FEATURES + 1, 6 H), (2 H, 6 H), (6 H,)."""
        size = self.weights["gru.weight_hh_l0"].shape[1]
        into, turn = np.zeros((2 * FEATURES + 1, 6 * size)), np.zeros((2 * size, 6 * size))
        bias = np.zeros(6 * size)
        for side, end in enumerate(("", "_reverse")):
            for gate in range(3):
                theirs = slice(gate * size, (gate + 1) * size)
                at = slice((2 * gate + side) * size, (2 * gate + side + 1) * size)
                into[side * FEATURES : (side + 1) * FEATURES, at] = self.weights[f"gru.weight_ih_l0{end}"][theirs].T
                into[-1, at] = self.weights[f"gru.bias_ih_l0{end}"][theirs]
                turn[side * size : (side + 1) * size, at] = self.weights[f"gru.weight_hh_l0{end}"][theirs].T
                bias[at] = self.weights[f"gru.bias_hh_l0{end}"][theirs]
        return into, turn, bias


@dataclass(frozen=True)
class Vintage:
    """A network, and the instant (epoch s) of the last thing that it was taught."""

    until: float
    network: Network
    lessons: int = 0

    def to_bytes(self) -> bytes:
        """One npz of plain arrays with a JSON header; equal vintages give equal bytes."""
        header = {"format": FORMAT, "until": self.until, "lessons": self.lessons}
        arrays: dict[str, NDArray[Any]] = {
            "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
        }
        arrays |= {f"weights/{k}": v for k, v in sorted(self.network.weights.items())}
        arrays |= {f"shift/{k}": v for k, v in sorted(self.network.shift.items())}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Vintage":
        """What `to_bytes` wrote.

        Raises:
            UnsafeModelError: it is something else, or damaged.
        """
        try:
            with np.load(io.BytesIO(blob), allow_pickle=False) as file:
                arrays = {k: file[k] for k in file.files}
            header = json.loads(arrays.pop("header").tobytes())
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']!r}")
            parts: dict[str, dict[str, Floats]] = {"weights": {}, "shift": {}}
            for name, array in arrays.items():
                part, _, key = name.partition("/")
                parts[part][key] = array.astype(np.float64)
            made = cls(float(header["until"]), Network(**parts), int(header["lessons"]))
            use, length = made.network.corrections(np.zeros((BINS, FEATURES)))
            shifts = [made.network.shift[r] for r in RESOURCES]
            if use.shape != (BINS, len(NODES)) or any(s.shape != (2, 2, len(NODES)) for s in shifts):
                raise ValueError("weights of another shape")
            if not all(np.isfinite(a).all() for a in (*parts["weights"].values(), *shifts, length)):
                raise ValueError("weights that are no numbers")
        except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UnsafeModelError(f"not a sequence model: {error}", hint="preprov model retrain") from error
        return made


@dataclass
class Vintages:
    """What was taught so far, the oldest first."""

    kept: list[Vintage] = field(default_factory=list)

    def before(self, at: float) -> Network | None:
        """The newest that nothing after `at` has taught; None if there is none."""
        fit = [v for v in self.kept if v.until <= at]
        return max(fit, key=lambda v: v.until).network if fit else None


class SequenceCurves:
    """The CurveModel of one signature: the newest network that may be asked, the past as it was while there is none."""

    def __init__(self, vintages: Vintages) -> None:
        self._vintages = vintages

    def learn(self, past: AlignedRuns) -> None:
        """Nothing to do: networks are taught by schedule."""

    def scenarios(self, past: AlignedRuns, known: Floats, resource: str) -> Scenarios:
        """Each quantile of use with each of the runtime."""
        found = self._asked(past, known, resource)
        return History().scenarios(past, known, resource) if found is None else _each_with_each(*found)

    def after(
        self, past: AlignedRuns, known: Floats, resource: str, elapsed_s: float, amount: float
    ) -> Scenarios | None:
        """The same of a run that has gone on for so long and now uses so much; None where it can say nothing more."""
        found = self._asked(past, known, resource, (elapsed_s, amount))
        return None if found is None else _each_with_each(found[0], np.maximum(found[1], elapsed_s))

    def _asked(
        self, past: AlignedRuns, known: Floats, resource: str, seen: tuple[float, float] | None = None
    ) -> tuple[Floats, Floats] | None:
        """(Q, BINS) amounts and (Q,) s; None where no network may be asked, or too little is known."""
        network = self._vintages.before(past.newest)
        of = told(past, known, resource) if network is not None else None
        if network is None or of is None:
            return None
        if seen is not None:
            share = seen[0] / float(np.exp(of.length))
            if not (0 < share <= SEEN_UNTIL and np.isfinite(seen[1])):
                return None
            of = of.seen(share, float(np.log(max(seen[1], LEAST))))
        return network.quantiles(of, resource)


def _each_with_each(amount: Floats, seconds: Floats) -> Scenarios:
    """Each quantile of use, (Q, BINS), with each of the runtime, (Q,)."""
    count = len(NODES)
    return Scenarios(np.repeat(amount, count, axis=0), np.tile(seconds, count), np.outer(MASS, MASS).ravel())
