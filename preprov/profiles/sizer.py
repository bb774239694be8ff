"""Sizing one signature's tasks: the allocation of least expected waste over a mixture of predictive distributions.

Each finished run is replayed against what every member of the pool would have asked for. What that would have wasted,
discounted, decides how much the member weighs (exponential weights: Vovk 1990; a fixed share, so that a member whose
time comes is heard: Herbster and Warmuth 1998): which model fits a signature is never a setting. The allocation is the
one of least expected waste under the mixture, not the best member's nor an average of theirs: what one member overlooks
another one knows.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from preprov.profiles.draws import MASS, Mixture
from preprov.profiles.forest import FEWEST, Forest
from preprov.profiles.history import Facts, History
from preprov.profiles.members import Grown, Member, Pool, Query, facts_known, sources
from preprov.profiles.waste import Price, waste

Floats = NDArray[np.float64]

DECAY: Final = 0.97
"""How much the last replay counts against the next."""
_ETA: Final = 0.3
_CAUTION: Final = 0.03
_SHARE: Final = 0.15
_NEGLIGIBLE: Final = 0.02
_LOOK_AGAIN: Final = 1.25
_GROW_AGAIN: Final = 1.5
_LEAST_PEAK: Final = 1e-9
_BATCH: Final = 1024
_NOTHING: Final = Facts()


@dataclass(frozen=True, slots=True)
class Sized:
    """What a task should ask for.

    Attributes:
        allocation: in the unit of the peaks. p50, p99: of the predicted peak. hours: expected runtime.
        runs: of the signature that it rests on. weights: of the members that said it.
    """

    allocation: float
    p50: float
    p99: float
    hours: float
    runs: int
    weights: Mapping[str, float]


@dataclass(slots=True)
class _Score:
    """Discounted replayed waste, and the use it is measured against."""

    wasted: float = 0.0
    used: float = 0.0

    @property
    def ratio(self) -> float:
        return self.wasted / self.used if self.used > 0 else float("inf")


class Sizer:
    """Learns one resource of one signature, run by run.

    Args:
        price: what a failure costs. seed: of the forest.
    """

    def __init__(self, price: Price, seed: int = 0) -> None:
        self.price = price
        self.history = History()
        self._seed = seed
        self._scores: dict[Member, _Score] = {}
        self._columns: tuple[int, ...] = ()
        self._looked_at = 0
        self._grown: Grown | None = None
        self._grown_at = 0
        self._replays = 0.0
        self._pool = Pool(self.history, (), None)

    def __len__(self) -> int:
        return len(self.history)

    def learn(self, peak: float, hours: float, facts: Facts = _NOTHING) -> bool:
        """One finished run; False if it teaches nothing, for its peak or runtime is not known."""
        if not (np.isfinite(peak) and np.isfinite(hours) and peak > _LEAST_PEAK and hours >= 0):
            return False
        if len(self.history):
            self._replay(peak, hours, facts)
        self.history.add(peak, hours, facts)
        n = len(self.history)
        if n >= _LOOK_AGAIN * self._looked_at + 1 or n < self._looked_at:
            self._columns, self._looked_at = sources(self.history), n
        if n >= max(FEWEST, _GROW_AGAIN * self._grown_at) or n < self._grown_at:
            self._grown, self._grown_at = self._grow(), n
        self._pool = Pool(self.history, self._columns, self._grown)
        return True

    def size(self, facts: Sequence[Facts]) -> list[Sized]:
        """What tasks should ask for of which this is known; at least one run must have been learnt."""
        out: list[Sized] = []
        for start in range(0, len(facts), _BATCH):
            out += self._sized(Query(*self.history.encode(facts[start : start + _BATCH])))
        return out

    def _sized(self, query: Query) -> list[Sized]:
        """Tasks of which the same members can speak go together."""
        out: list[Sized] = [_NOBODY] * len(query)
        for speakers, rows in query.parted(self._pool.members):
            for row, sized in zip(rows.tolist(), self._mixed(speakers, query.at(rows)), strict=False):
                out[row] = sized
        return out

    def _mixed(self, speakers: Sequence[Member], query: Query) -> Iterable[Sized]:
        weights = self._weights(speakers)
        heard = np.flatnonzero(weights >= _NEGLIGIBLE * weights.max()).tolist()
        drawn = [self._pool.draw(speakers[i], query) for i in heard]
        mixture = Mixture.of(drawn, weights[heard], self.history.hours_at)
        told = {speakers[i].kind: round(float(weights[i]), 3) for i in heard}
        runs, (p50, p99) = len(self.history), mixture.quantiles(_TOLD).T
        rows = np.stack([mixture.cheapest(self.price), p50, p99, mixture.expected_hours], axis=1).tolist()
        sized = [Sized(asked, low, high, hours, runs, told) for asked, low, high, hours in rows]
        return sized if len(sized) > 1 else itertools.repeat(sized[0])

    def _weights(self, speakers: Sequence[Member]) -> Floats:
        """(m,) weights of the members, adding up to 1."""
        ratio = np.array([self._scores[m].ratio if m in self._scores else np.inf for m in speakers])
        best = ratio.min()
        if not np.isfinite(best):
            return np.full(len(speakers), 1 / len(speakers))
        worse = (ratio - best) / (best + _CAUTION / self._replays)
        weight = np.exp(-_ETA * self._replays * worse)
        out: Floats = (1 - _SHARE) * weight / weight.sum() + _SHARE / len(speakers)
        return out

    def _grow(self) -> Grown | None:
        history = self.history
        known = facts_known(history.numbers, history.words)
        if not known.shape[1] or not np.ptp(np.nan_to_num(known, nan=-1.0), axis=0).any():
            return None
        forest = Forest.grow(known, np.log(history.peak), self._seed)
        return Grown(forest, history.numbers.shape[1], history.words.shape[1], history.peak.copy())

    def _replay(self, peak: float, hours: float, facts: Facts) -> None:
        query = Query(*self.history.encode([facts]))
        speakers = [m for m in self._pool.members if query.told(m)[0]]
        drawn = np.concatenate([self._pool.draw(m, query) for m in speakers])
        alone = Mixture(drawn, np.broadcast_to(MASS, drawn.shape), self.history.hours_at(drawn))
        wasted = waste(alone.cheapest(self.price), peak, hours, self.price)
        usual = self._usual()
        for score in self._scores.values():
            score.wasted *= DECAY
            score.used *= DECAY
        self._replays = self._replays * DECAY + 1
        for member, loss in zip(speakers, wasted.tolist(), strict=True):
            score = self._scores.setdefault(member, _Score(usual.wasted * DECAY, usual.used * DECAY))
            score.wasted += loss
            score.used += peak * hours

    def _usual(self) -> _Score:
        """What a member begins with that has not spoken before: the middle of the others."""
        known = sorted(self._scores.values(), key=lambda s: s.ratio)
        return known[len(known) // 2] if known else _Score()


_NOBODY: Final = Sized(0.0, 0.0, 0.0, 0.0, 0, {})
_TOLD: Final = np.array([0.5, 0.99])
