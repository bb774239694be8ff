"""Policies that look at the present and the recent past, as small objects with one knob each."""

import math

from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from preprov.replay.policy import FloorPolicy, Order, Setting, View


class Reactive(FloorPolicy):
    """Launch when work is pending, end what has idled; nothing is ever kept warm. Knob: seconds of idleness."""

    def __init__(self, knob: float | None = None) -> None:
        idle_s = 600.0 if knob is None else knob
        super().__init__(knob=idle_s, name="reactive", idle_s=idle_s)


class ReactiveMax(FloorPolicy):
    """Keep what was used at most within the last while, plus a constant. Knob: the constant, in nodes.

    After the rule that beats learnt controllers on Helios' Philly series.
    """

    def __init__(self, knob: float | None = None, window_s: float = 900.0, name: str = "reactive-max") -> None:
        super().__init__(knob=0.0 if knob is None else knob, name=name)
        self.window_s = window_s

    def floor(self, now: float, view: View) -> float:
        """The recent maximum and the constant."""
        return math.ceil(view.peak(self.window_s) - 1e-9) + self.knob


class StaticRunning(FloorPolicy):
    """So many nodes always run, and reactive above. Knob: how many; None = the most that history ever wanted."""

    def __init__(self, knob: float | None = None, name: str = "static-running") -> None:
        super().__init__(knob=math.nan if knob is None else knob, name=name)

    def prepare(self, setting: Setting) -> None:
        """Look up the peak of history, if nothing was said."""
        super().prepare(setting)
        if math.isnan(self.knob):
            self.knob = float(math.ceil(setting.history.until(setting.start).max(initial=0.0)))

    def floor(self, now: float, view: View) -> float:
        """The constant."""
        return self.knob


class StaticStopped(FloorPolicy):
    """So many nodes are kept stopped, started when work is pending, stopped again when idle. Knob: how many."""

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob=math.nan if knob is None else knob, name="static-stopped", keep=Standby.STOPPED)

    def prepare(self, setting: Setting) -> None:
        """Look up the peak of history, if nothing was said."""
        super().prepare(setting)
        if math.isnan(self.knob):
            self.knob = float(math.ceil(setting.history.until(setting.start).max(initial=0.0)))
        self.kept = round(self.knob)

    def stock(self, view: View) -> list[Order]:
        """Fill the warm pool."""
        return fill_up(view, self.kept)


def fill_up(view: View, total: int) -> list[Order]:
    """Launch what is missing of `total` nodes, those in use counted; what comes up unneeded is stopped once idle."""
    missing = total - len(view.standby(Standby.STOPPED)) - view.ready - view.warming
    return [Order(ActionKind.LAUNCH, missing)] if missing > 0 else []
