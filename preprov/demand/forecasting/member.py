"""What the built-in members share: they work on a prepared View and forecast many origins at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.protocol import FittedForecaster, Forecaster
from preprov.demand.forecasting.quantiles import GRID, uncross
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.model.errors import UnsafeModelError
from preprov.model.series import SeriesHistory

_MOST_RESIDUALS: Final = 2_000_000


class FittedMember(Protocol):
    """A fitted built-in member."""

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin, from nothing after that origin."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        ...


@dataclass(frozen=True)
class Member(ABC):
    """A built-in member: fits on a View; `fit`, `predict` of the public protocol are given by `Public`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the member."""

    @abstractmethod
    def min_days(self) -> float:
        """Days of known steps it needs."""

    @abstractmethod
    def fit_view(self, view: View, horizon: int, seed: int) -> FittedMember:
        """Learn from all of `view` for horizons 1..horizon."""

    @abstractmethod
    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedMember:
        """The fitted member whose `state()` this was."""


@dataclass(frozen=True)
class PublicFitted:
    """A fitted built-in member behind the public protocol."""

    fitted: FittedMember
    country: str | None = None

    def predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(H, Q) for the steps after `history.end`."""
        view = View(history, self.country)
        return uncross(self.fitted.predict_at(view, np.array([len(view) - 1]), horizon, quantiles)[0])

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        return self.fitted.state()


@dataclass(frozen=True)
class Public:
    """A built-in member behind the public Forecaster protocol, to be used on its own (a peer, a test)."""

    member: Member
    horizon: int = 24
    country: str | None = None
    steps_per_day: int = 24

    @property
    def name(self) -> str:
        """Name of the member."""
        return self.member.name

    @property
    def min_steps(self) -> int:
        """Known steps it needs."""
        return max(1, round(self.member.min_days() * self.steps_per_day))

    def fit(self, history: SeriesHistory, *, seed: int) -> PublicFitted:
        """Learn from `history`."""
        return PublicFitted(self.member.fit_view(View(history, self.country), self.horizon, seed), self.country)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> PublicFitted:
        """From `state()`."""
        return PublicFitted(self.member.restore(state), self.country)


@dataclass(frozen=True)
class _ForeignFitted:
    inner: FittedForecaster

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        out = np.empty((len(origins), horizon, len(quantiles)))
        for i, origin in enumerate(origins):
            known = view.history.window(0, int(origin) + 1)
            out[i] = self.inner.predict(known, horizon, quantiles)
        return uncross(out)

    def state(self) -> Mapping[str, NDArray[Any]]:
        return self.inner.state()


@dataclass(frozen=True)
class Foreign(Member):
    """A third party's Forecaster as a member: asked for one origin at a time, given only what was known by then."""

    inner: Forecaster
    steps_per_day: int = 24

    @property
    def name(self) -> str:
        """Name of the member."""
        return self.inner.name

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return self.inner.min_steps / self.steps_per_day

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedMember:
        """Learn from the history behind the view."""
        return _ForeignFitted(self.inner.fit(view.history, seed=seed))

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedMember:
        """From `state()`."""
        return _ForeignFitted(self.inner.restore(state))


def scalar(state: Mapping[str, NDArray[Any]], key: str) -> str:
    """A piece of text in a member's state.

    Raises:
        UnsafeModelError: it is not there, or is not text.
    """
    value = state.get(key)
    if value is None or value.dtype.kind != "U" or value.ndim:
        raise UnsafeModelError(f"a stored member has no text {key!r}", hint="retrain the model")
    return str(value)


def learnable_rows(view: View, horizon: int, count: int, seed: int) -> tuple[Ints, Ints]:
    """Draw up to `count` distinct (origin, ahead) pairs whose target may be learnt from.

    Half of them begin at the hour of day at which this view ends: that is the forecast that will be asked for most.
    """
    warm = min(7 * view.per_day, max(0, len(view) // 4))
    stop = len(view) - 1
    rng = np.random.default_rng(seed)
    every = rng.integers(warm, stop, size=count)
    same = np.arange(stop - view.per_day, warm - 1, -view.per_day)
    at_hour = rng.choice(same, size=count) if len(same) else every
    origins = np.where(rng.random(count) < 0.5, at_hour, every)
    ahead = rng.integers(1, horizon + 1, size=count)
    inside = origins + ahead < len(view)
    pairs = np.unique(origins[inside] * (horizon + 1) + ahead[inside])
    origins, ahead = pairs // (horizon + 1), pairs % (horizon + 1)
    keep = view.learnable[origins + ahead]
    return origins[keep], ahead[keep]


def thinned(origins: Ints, horizon: int, per_day: int) -> Ints:
    """Enough of the origins for residuals at every horizon: all of them by the hour, every n-th at finer steps.

    n has no common factor with the day, so that every time of day stays among them.
    """
    stride = max(1, len(origins) * horizon // _MOST_RESIDUALS)
    while gcd(stride, per_day) > 1:
        stride += 1
    return origins[::-stride][::-1]


def on_grid(samples: Floats, quantiles: Sequence[float] = GRID) -> Floats:
    """(N, K) samples -> (N, Q) quantiles."""
    out: Floats = np.moveaxis(np.quantile(samples, quantiles, axis=-1), 0, -1)
    return out
