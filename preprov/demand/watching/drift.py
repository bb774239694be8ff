"""Drift of the forecast's loss: ADWIN and the Page-Hinkley test on losses of successive hours.

ADWIN (Bifet & Gavalda 2007) finds a change of the mean over any window; Page-Hinkley (Page 1954) is quicker where the
mean rises. Both come from river. Losses are squashed to (0, 1) first: one terrible hour counts as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

ADWIN: Final = "ADWIN"
PAGE_HINKLEY: Final = "Page-Hinkley"
_RECENT: Final = 48


@dataclass(frozen=True)
class DriftSettings:
    """How easily an alarm is raised.

    Attributes:
        delta: ADWIN's confidence. grace: losses before anything is said. slack, threshold: Page-Hinkley's, in units of
            the squashed loss, for which 0.5 is the change from one day to the next.
        rise: an alarm counts only where the recent mean lies so much above what was before.
    """

    delta: float = 0.002
    grace: int = 72
    slack: float = 0.02
    threshold: float = 12.0
    rise: float = 0.05


@dataclass(frozen=True, slots=True)
class Alarm:
    """The loss rose.

    Attributes:
        index: of the loss at which it was noticed. by: the test. before, after: mean squashed loss.
    """

    index: int
    by: str
    before: float
    after: float


def alarms(losses: Sequence[float], settings: DriftSettings | None = None) -> tuple[Alarm, ...]:
    """Alarms over a sequence of losses, oldest first; after each the tests begin anew.

    Args:
        losses: (N,) >= 0, standardised: 1 is what the change from one day to the next would cost.
        settings: see there.
    """
    chosen = settings or DriftSettings()
    values = np.asarray(losses, np.float64)
    squashed = values / (1.0 + values)
    if len(squashed) <= chosen.grace:
        return ()
    found: list[Alarm] = []
    tests, begun = _tests(chosen), 0
    for i, value in enumerate(squashed.tolist()):
        told = [name for name, test in tests.items() if _rings(test, value)]
        if not told:
            continue
        alarm = _alarm(squashed[begun : i + 1], i, told[0])
        if alarm.after - alarm.before >= chosen.rise:
            found.append(alarm)
        tests, begun = _tests(chosen), max(begun, i + 1 - _RECENT)
    return tuple(found)


def _tests(settings: DriftSettings) -> dict[str, Any]:
    from river.drift import ADWIN as Adwin  # takes a second to load, and most passes never ask
    from river.drift import PageHinkley

    windowed: Any = Adwin  # river tells no types of it
    return {
        ADWIN: windowed(delta=settings.delta, clock=6, grace_period=settings.grace),
        PAGE_HINKLEY: PageHinkley(
            min_instances=settings.grace, delta=settings.slack, threshold=settings.threshold, mode="up"
        ),
    }


def _rings(test: Any, value: float) -> bool:
    test.update(value)
    return bool(test.drift_detected)


def _alarm(window: np.ndarray[Any, Any], index: int, by: str) -> Alarm:
    recent = min(_RECENT, max(1, len(window) // 2))
    before, after = window[:-recent], window[-recent:]
    return Alarm(index, by, float(before.mean()) if len(before) else 0.0, float(after.mean()))
