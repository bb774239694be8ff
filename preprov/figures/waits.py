"""A picture of waiting: by the hour in which it ended, and by what caused it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.figures.canvas import DEMAND, QUIET, drawing, legend, numbers, time_axis
from preprov.model.waits import FAMILIES

_COLOURS: Final = dict(zip(FAMILIES, ("#d1495b", "#e08e2b", DEMAND, "#2a8c6a", "#7d5ba6", QUIET), strict=True))


def waits_by_cause(
    starts: Sequence[datetime],
    hours: NDArray[np.float64],
    causes: Sequence[tuple[str, str, float]],
    zone: str,
    *,
    fmt: str = "png",
) -> bytes:
    """Above, hours of waiting stacked by family over time; below, the causes, longest first.

    Args:
        starts: (N,) of hours. hours: (N, families) of waiting that ended in each. causes: (words, family, hours).
        zone: of the time axis. fmt: "png" or "svg".
    """
    height = 3.0 + 0.28 * max(len(causes), 1)
    with drawing("waits", fmt, (9.0, height + 0.6)) as (figure, done):
        over, by = figure.subplots(2, 1, gridspec_kw={"height_ratios": [3.0, 0.6 + 0.28 * max(len(causes), 1)]})
        floor = np.zeros(len(starts))
        for j, family in enumerate(FAMILIES):
            part = np.asarray(hours)[:, j]
            if part.any():
                over.bar(
                    numbers(starts), part, width=1 / 24, bottom=floor, align="edge", color=_COLOURS[family],
                    label=family, linewidth=0,
                )  # fmt: skip
                floor = floor + part
        over.set_ylabel("hours of waiting, per hour")
        over.set_title("When tasks waited, by the hour in which it ended")
        time_axis(over, zone, starts[0], starts[-1] + timedelta(hours=1))
        legend(over)
        at = np.arange(len(causes))[::-1]
        by.barh(at, [h for _, _, h in causes], color=[_COLOURS[f] for _, f, _ in causes], height=0.7)
        by.set_yticks(at, [words for words, _, _ in causes])
        by.set_xlabel("hours of waiting in all")
        by.set_title("What they waited for")
        by.grid(axis="y", visible=False)
    return done()
