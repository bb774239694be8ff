"""DemandCurve: what work wants over time, as quantiles and as joint samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.errors import ForecastError
from preprov.model.resources import KINDS, Resources
from preprov.model.time import aware

Array: TypeAlias = NDArray[Any]

QUANTILES: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
PARTS: Final = ("in_flight", "queued", "scheduled", "recurring", "learnt")


@dataclass(frozen=True)
class DemandCurve:
    """Demand of one pool per step: the peak within the step, all five resources jointly.

    Attributes:
        start: first step's beginning. step_seconds: length of a step.
        samples: (S, T, 5) joint sample paths in the order of KINDS, float32. A sample is one possible future: maxima
            over windows and differences are taken inside it, never across marginal quantiles.
        mean: (S, T, 5) or None: mean within the step where it differs from the peak (billing, core-seconds).
        parts: part of PARTS -> (T, 5) mean demand of that part; they add up to the mean of all samples.
        quantiles: what is printed and stored.
        basis: facts about how it was made (fallbacks, coverage, model id, sources and their age).
    """

    pool: str
    issued_at: datetime
    start: datetime
    step_seconds: int
    samples: Array
    mean: Array | None = None
    parts: Mapping[str, Array] = field(default_factory=dict)
    quantiles: tuple[float, ...] = QUANTILES
    basis: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples.ndim != 3 or self.samples.shape[2] != len(KINDS):
            raise ForecastError(f"samples must be (S, T, {len(KINDS)}), got {self.samples.shape}", where=self.pool)
        if self.samples.size and (not np.isfinite(self.samples).all() or self.samples.min() < 0):
            raise ForecastError("demand must be finite and >= 0", where=self.pool)
        if self.step_seconds <= 0:
            raise ForecastError("step_seconds must be > 0", where=self.pool)
        object.__setattr__(self, "issued_at", aware(self.issued_at))
        object.__setattr__(self, "start", aware(self.start))

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return int(self.samples.shape[1])

    @property
    def end(self) -> datetime:
        """End of the last step."""
        return self.start + timedelta(seconds=self.step_seconds * self.steps)

    def times(self) -> list[datetime]:
        """Beginning of each step."""
        return [self.start + timedelta(seconds=self.step_seconds * i) for i in range(self.steps)]

    def quantile(self, q: float | Sequence[float], kind: str = "cpu") -> Array:
        """(T,) or (T, Q) marginal quantiles of one resource."""
        out: Array = np.quantile(self.samples[:, :, KINDS.index(kind)], q, axis=0)
        return out if isinstance(q, int | float) else np.moveaxis(out, 0, -1)

    def table(self, kind: str = "cpu") -> Array:
        """(T, Q) marginal quantiles, never crossing."""
        return np.sort(self.quantile(self.quantiles, kind), axis=1)

    def window_max(self, steps: int) -> Array:
        """(S, T, 5): per sample, the maximum over this step and the following steps-1."""
        return _window_max(self.samples, steps)

    def increase(self, steps: int) -> Array:
        """(S, T, 5): per sample, the maximum over the window less the demand now, never below zero.

        This, not the sum of arrivals, is what a lead window needs: short tasks hand their cores on.
        """
        out: Array = np.maximum(_window_max(self.samples, steps) - self.samples, 0.0)
        return out

    def at(self, q: float, when: datetime) -> Resources:
        """Marginal quantile of all five resources at an instant; zero outside the curve."""
        i = int((when - self.start).total_seconds() // self.step_seconds)
        if not 0 <= i < self.steps:
            return Resources()
        return Resources.of(np.quantile(self.samples[:, i, :], q, axis=0).tolist())

    def resample(self, step_seconds: int) -> "DemandCurve":
        """The same curve on a coarser step (peak of the peaks, mean of the means).

        Raises:
            ForecastError: `step_seconds` is not a multiple of the present step.
        """
        k, rest = divmod(step_seconds, self.step_seconds)
        if rest or k < 1:
            raise ForecastError(f"cannot resample {self.step_seconds} s to {step_seconds} s", where=self.pool)
        if k == 1:
            return self
        n = self.steps // k

        def blocks(a: Array) -> Array:
            return a[:, : n * k].reshape(a.shape[0], n, k, a.shape[2])

        mean = self.samples if self.mean is None else self.mean
        parts = {p: v[: n * k].reshape(n, k, v.shape[1]).mean(axis=1) for p, v in self.parts.items()}
        return replace(
            self,
            step_seconds=step_seconds,
            samples=blocks(self.samples).max(axis=2),
            mean=blocks(mean).mean(axis=2),
            parts=parts,
        )

    def points(self, kind: str = "cpu") -> list[dict[str, object]]:
        """Rows for JSON: ts and the demand at each quantile."""
        return [
            {"ts": t.isoformat(), "demand": [round(float(v), 6) for v in row]}
            for t, row in zip(self.times(), self.table(kind), strict=True)
        ]


def _window_max(samples: Array, steps: int) -> Array:
    out = samples.copy()
    for k in range(1, min(steps, samples.shape[1])):
        np.maximum(out[:, :-k], samples[:, k:], out=out[:, :-k])
    return out
