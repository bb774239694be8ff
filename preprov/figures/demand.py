"""Pictures of forecasts: how much may be wanted, and what that is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from preprov.figures.canvas import ACTUAL, DEMAND, FANS, INK, clock, drawing, held, legend, numbers, time_axis
from preprov.model.demand import DemandCurve
from preprov.model.resources import KINDS, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "in_flight": ("running now", "#1f4e8c"),
    "queued": ("queued now", "#4f9fb5"),
    "scheduled": ("due by schedule", "#2a8c6a"),
    "recurring": ("comes back by habit", "#9cc069"),
    "learnt": ("learnt from the past", "#e0b04a"),
}


@dataclass(frozen=True, slots=True)
class Level:
    """A quantity that holds from each instant to the next."""

    at: Sequence[datetime]
    value: Sequence[float]


def forecast_fan(
    curve: DemandCurve, zone: str, *, kind: str = "cpu", actual: Level | None = None, fmt: str = "png", title: str = ""
) -> bytes:
    """The forecast's median inside its 50, 80 and 90 % intervals, with what came true if it is known.

    Args:
        curve: the forecast. zone: of the time axis. kind: which resource.
        actual: demand as it came. fmt: "png" or "svg". title: "" = one is made.
    """
    with drawing("fan", fmt, (9.0, 3.4)) as (figure, done):
        ax = figure.subplots()
        times = [*curve.times(), curve.end]
        for low, high, alpha in FANS:
            a, b = (held(curve.quantile(q, kind)) for q in (low, high))
            ax.fill_between(
                numbers(times), a, b, step="post", color=DEMAND, alpha=alpha, linewidth=0, label=f"{high - low:.0%}"
            )
        ax.step(numbers(times), held(curve.quantile(0.5, kind)), where="post", color=DEMAND, lw=1.6, label="median")
        if actual is not None and len(actual.at):
            ax.step(numbers(actual.at), list(actual.value), where="post", color=ACTUAL, lw=1.6, label="as it came")
        ax.set_ylabel(f"{kind}, {UNITS[kind]}" if kind in KINDS else kind)
        ax.set_ylim(bottom=0)
        ax.set_title(title or f"Demand of pool {curve.pool}, forecast {clock(curve.issued_at, zone)}")
        time_axis(ax, zone, times[0], times[-1])
        legend(ax)
    return done()


def forecast_parts(curve: DemandCurve, zone: str, *, kind: str = "cpu", fmt: str = "png", title: str = "") -> bytes:
    """Above, what the expected mean demand of each step is made of, inside the fan of that mean; below, its peak.

    Args:
        curve: the forecast. zone: of the time axis. kind: which resource. fmt: "png" or "svg". title: "" = one is made.
    """
    column = KINDS.index(kind)
    with drawing("parts", fmt, (9.0, 5.4)) as (figure, done):
        means, peaks = figure.subplots(2, 1, sharex=True)
        times = [*curve.times(), curve.end]
        places, floor = numbers(times), np.zeros(curve.steps)
        for part, (label, colour) in _PARTS.items():
            if part in curve.parts and np.any(np.asarray(curve.parts[part])[:, column] > 0):
                top = floor + np.asarray(curve.parts[part])[:, column]
                means.fill_between(places, held(floor), held(top), step="post", color=colour, lw=0, label=label)
                floor = top
        _fan(means, places, (curve.samples if curve.mean is None else curve.mean)[:, :, column])
        _fan(peaks, places, curve.samples[:, :, column])
        for ax in (means, peaks):
            ax.set_ylabel(f"{kind}, {UNITS[kind]}")
            ax.set_ylim(bottom=0)
            legend(ax)
        means.set_title(title or f"What pool {curve.pool} is expected to want, forecast {clock(curve.issued_at, zone)}")
        peaks.set_title("The most within each step")
        time_axis(peaks, zone, times[0], times[-1])
    return done()


def _fan(ax: "Axes", places: Any, samples: Any) -> None:
    """Median and the 50, 80 and 90 % intervals of (S, T) samples."""
    for low, high, _ in FANS:
        a, b = (held(row) for row in np.quantile(samples, (low, high), axis=0))
        ax.fill_between(places, a, b, step="post", color=INK, alpha=0.13, lw=0, label=f"{high - low:.0%}")
    ax.step(places, held(np.quantile(samples, 0.5, axis=0)), where="post", color=INK, lw=1.4, label="median")
