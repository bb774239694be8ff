"""What was learnt of tasks by their signature: within bounds of memory, and of work in one round of dispatch.

What was asked for longest ago goes first. A run that ends marks what is known of its signature, so that the next that
asks learns of it. Where a round has done its share, what was known before is given; the rest follows in the next.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Final, NamedTuple, TypeVar

import numpy as np

from preprov.control.context import Context
from preprov.model.usage import Floats, UsageRun

T = TypeVar("T")

MOST: Final = 512
"""Signatures, by kind of knowledge, of which something is kept; a model of 64 runs takes some 150 kB."""
MOST_UNKNOWN: Final = 20_000
"""Those of which it is kept that there is nothing to learn yet."""
LOOKS_A_ROUND: Final = 8
"""Signatures of which past runs are read in one round, by kind of knowledge."""
RUNS_A_ROUND: Final = 8
"""Runs that models of use over time are taught in one round; one takes some 0.1 s."""
_FRESH: Final = timedelta(minutes=10)
"""Ends that another process noted are known by then."""


class Key(NamedTuple):
    """Of one kind of knowledge of one signature."""

    pool: str
    kind: str
    dag: str
    signature: str


@dataclass
class Allowance:
    """What may still be learnt in this round: signatures looked up by kind, and runs taught."""

    looks: dict[str, int] = field(default_factory=dict)
    runs: int = RUNS_A_ROUND

    def may_look(self, kind: str) -> bool:
        """Take one of the looks of that kind; False if none is left."""
        left = self.looks.get(kind, LOOKS_A_ROUND)
        self.looks[kind] = max(left - 1, 0)
        return left > 0

    def may_teach(self) -> bool:
        """Take one of the runs; False if none is left."""
        self.runs -= 1
        return self.runs >= 0


@dataclass
class _Held:
    at: datetime
    value: object
    stale: bool = False


class Signatures:
    """What is known of signatures.

    Args:
        most: kept at once, of all pools. most_unknown: of which it is kept that nothing is known.
    """

    def __init__(self, most: int = MOST, most_unknown: int = MOST_UNKNOWN) -> None:
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._unknown: OrderedDict[Key, _Held] = OrderedDict()
        self._most = ((self._held, most), (self._unknown, most_unknown))
        self._rounds: dict[str, Allowance] = {}
        self._kinds: set[str] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        """Of how many something is known."""
        return len(self._held)

    @property
    def unknown(self) -> int:
        """Of how many it is known that there is nothing to learn yet."""
        return len(self._unknown)

    def new_round(self, pool: str) -> None:
        """A round of dispatch of a pool begins: it may learn its share again."""
        self._rounds[pool] = Allowance()

    def allowance(self, pool: str) -> Allowance:
        """What the present round of a pool may still learn."""
        return self._rounds.setdefault(pool, Allowance())

    def ask(
        self, key: Key, now: datetime, learn: Callable[[T | None], T | None], *, may: bool | None = None
    ) -> tuple[T | None, bool]:
        """(what is known, whether it was looked up by now at all).

        Args:
            key: of what. now: the present instant.
            learn: makes it, from what was known before; None = there is nothing to learn.
            may: whether it may be looked up now; None = while this round has not done its share.
        """
        held = self._take(key)
        if held is not None and not held.stale and timedelta(0) <= now - held.at < _FRESH:
            return held.value, True  # type: ignore[return-value]
        before: T | None = held.value if held is not None else None  # type: ignore[assignment]
        if not (self.allowance(key.pool).may_look(key.kind) if may is None else may):
            return before, held is not None
        value = learn(before)
        self._put(key, _Held(now, value))
        return value, True

    def ended(self, pool: str, dag: str, signature: str) -> None:
        """A run of it ended: what is known of it is looked up again when it is next asked for."""
        with self._lock:
            for kind in self._kinds:
                key = Key(pool, kind, dag, signature)
                held = self._held.get(key) or self._unknown.get(key)
                if held is not None:
                    held.stale = True

    def _take(self, key: Key) -> _Held | None:
        with self._lock:
            for table, _ in self._most:
                if key in table:
                    table.move_to_end(key)
                    return table[key]
        return None

    def _put(self, key: Key, held: _Held) -> None:
        with self._lock:
            self._kinds.add(key.kind)
            self._held.pop(key, None)
            self._unknown.pop(key, None)
            (self._unknown if held.value is None else self._held)[key] = held
            for table, most in self._most:
                while len(table) > most:
                    table.popitem(last=False)


def signatures_of(ctx: Context) -> Signatures:
    """Of this process."""
    held = ctx.memo.setdefault(("signatures",), (ctx.clock.now(), Signatures()))
    return held[1]  # type: ignore[return-value]


def in_short(run: UsageRun) -> UsageRun:
    """Without its samples but the last, unknown where none was known."""

    def last(values: Floats) -> Floats:
        known = values[np.isfinite(values)][-1:].copy()
        return known if len(known) else np.array([np.nan])

    more = {r: last(v) for r, v in run.more.items()}
    return replace(run, at=run.at[-1:].copy(), cpu=last(run.cpu), memory=last(run.memory), more=more)
