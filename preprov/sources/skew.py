"""How far the clock of who is asked is from ours: heard in its answers, told in `source test`, and taken into account.

Whoever asks for "what ended since" asks in the other's time, and shifts what it reads into ours.
"""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from preprov.contracts import Finding
from preprov.model.time import epoch

TOLERATED_S: Final = 30.0
"""Clocks that differ by less are taken as one: what is told of them has whole seconds, and an answer takes its time."""
_HALF_S: Final = 0.5


class HeardClock:
    """Whoever is asked tells its time in its answers.

    Attributes:
        ahead_s: seconds that it is ahead of ours, as last heard; 0 = nothing was heard yet.
    """

    def __init__(self, ours: Callable[[], float]) -> None:
        """Nothing heard yet; `ours`: epoch seconds by our clock."""
        self._ours = ours
        self.ahead_s = 0.0

    def hear(self, date: str | None, asked: float | None = None) -> None:
        """Take the header `Date` of an answer that came just now; none, or a broken one, says nothing.

        Args:
            date: the header. asked: when it was asked for, by our clock: a time between then and now is ours.
        """
        try:
            theirs = parsedate_to_datetime(date or "")
        except (ValueError, TypeError):
            return
        self.hear_at(epoch(theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)))
        if asked is not None and asked - self._ours() <= self.ahead_s <= 0.0:
            self.ahead_s = 0.0

    def hear_at(self, theirs: float) -> None:
        """Take a time in whole epoch seconds that it told just now."""
        self.ahead_s = theirs + _HALF_S - self._ours()

    def settled(self, taken: float) -> float:
        """The difference to go on with, seconds: what was taken so far, unless something really else is heard."""
        heard = self.ahead_s if abs(self.ahead_s) >= TOLERATED_S else 0.0
        return float(round(heard)) if abs(heard - taken) >= TOLERATED_S else taken


def clock_finding(ahead_s: float) -> Finding:
    """What a person is told of a clock that is so many seconds ahead of ours."""
    if abs(ahead_s) < TOLERATED_S:
        return Finding("clock", "ok", "agrees with ours")
    way = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock",
        "warn",
        f"is {abs(ahead_s):.0f} s {way} ours: its times are shifted by that",
        "let both machines follow a time server",
    )
