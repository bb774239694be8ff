"""Lead times learnt from warmings, robust to few of them: each level of detail leans on the coarser one above it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import NormalDist
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.contracts import LeadObservation
from preprov.model.offerings import NO_LEAD, LeadTime, Offering, Standby
from preprov.model.pools import Group, Pool

PRIOR_WEIGHT: Final = 4.0
"""The coarser level counts as this many observations."""
HALF_LIFE_S: Final = 14 * 86400.0
"""An observation counts half after this time: images grow, vendors change."""
KEPT: Final = 500
"""Of a kind of machine, so many warmings are learnt from at most."""
INSUFFICIENT_S: Final = 900.0
"""An offering that had no capacity is tried last for this long; twice as long each time it happens again."""
INSUFFICIENT_MOST_S: Final = 4 * INSUFFICIENT_S
FAILING_S: Final = 1800.0
"""An offering most of whose last launches failed within this time is tried last, too."""
_FAILING: Final = 3
SAME: Final = timedelta(hours=1)
"""Two observations of a node within this time, from the same state, are of one warming."""
_APART: Final = ("insufficient_capacity", "partial")
STAGES: Final = ("allocate", "boot", "image", "data", "join")
_FAILURES_PRIOR: Final = (0.4, 20.0)
_SIGMA: Final = (0.05, 1.5)
_Z95: Final = NormalDist().inv_cdf(0.95)
_SHORTEST_S: Final = 0.1

_Key: TypeAlias = tuple[str, str, Standby]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Leads:
    """Callable table (group, offering, state) -> LeadTime.

    Attributes:
        pool: its groups' configured leads answer where nothing was learnt.
        table: (group, offering key, state) -> learnt lead time.
        failures: same key -> share of warmings that fail; `failure_rate` has a prior for the rest.
        insufficient: (group, offering key) that had no capacity a short while ago, or whose launches fail -> until when
            it is tried last.
        ready: same key as `table` -> what its lead time was fitted to, by level from the coarsest to the finest.
    """

    pool: Pool
    table: Mapping[_Key, LeadTime] = field(default_factory=lambda: MappingProxyType({}))
    failures: Mapping[_Key, float] = field(default_factory=lambda: MappingProxyType({}))
    insufficient: Mapping[tuple[str, str], datetime] = field(default_factory=lambda: MappingProxyType({}))
    ready: Mapping[_Key, Sequence["Ready"]] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    def __call__(self, group: str, offering: Offering, state: Standby) -> LeadTime:
        """Time from decision to ready from that state; RUNNING is 0. ConfigError if the group is unknown."""
        if state is Standby.RUNNING:
            return NO_LEAD
        return self.table.get((group, offering.key, state)) or self.pool.group(group).lead_time(state)

    def failure_rate(self, group: str, offering: Offering, state: Standby) -> float:
        """Share of warmings from that state that never become ready, in (0, 1)."""
        return self.failures.get((group, offering.key, state), _FAILURES_PRIOR[0] / _FAILURES_PRIOR[1])

    def split(self, group: str, offering: Offering, state: Standby) -> Mapping[str, LeadTime]:
        """Stage -> lead time of that part of the way to ready, of STAGES and only where it was seen.

        Their medians need not add up to the whole's.
        """
        return _split(self.ready.get((group, offering.key, state), ()))

    def available(self, group: str, offering: Offering) -> bool:
        """False for a while after the vendor said it has none, or while launches of it mostly fail."""
        return (group, offering.key) not in self.insufficient


@dataclass(frozen=True)
class Telling:
    """Observations of all pools that still tell something.

    Attributes:
        newest: of each kind of machine (provider, zone, type, image, state) the newest `KEPT`; older ones count for
            little anyway. last: pool -> the last one of each of its groups, which says what image it launches now.
    """

    newest: tuple[LeadObservation, ...]
    last: Mapping[str, tuple[LeadObservation, ...]]

    @classmethod
    def of(cls, observations: Iterable[LeadObservation]) -> "Telling":
        """From observations in any order; one on record that preprov has seen as well counts once."""
        observations = once(observations)
        kinds: dict[tuple[object, ...], list[LeadObservation]] = {}
        last: dict[str, dict[str, LeadObservation]] = {}
        for o in observations:
            apart = o.outcome if o.outcome in _APART else ""
            kinds.setdefault((o.provider, o.zone, o.instance_type, o.image, o.came_from, apart), []).append(o)
            mine = last.setdefault(o.pool, {})
            if not apart and (o.group not in mine or o.at >= mine[o.group].at):
                mine[o.group] = o
        kept = (o for seen in kinds.values() for o in sorted(seen, key=lambda o: o.at)[-KEPT:])
        return cls(tuple(kept), {pool: tuple(groups.values()) for pool, groups in last.items()})

    def for_pool(self, pool: Pool) -> tuple[LeadObservation, ...]:
        """What is learnt from for a pool, each once."""
        here = {id(o) for o in self.newest}
        return (*self.newest, *(o for o in self.last.get(pool.name, ()) if id(o) not in here))


def once(observations: Iterable[LeadObservation]) -> list[LeadObservation]:
    """Without those on record that preprov has seen as well, by the node and about the same time, or that stand twice.

    What preprov has seen counts: it knows the image, and when the node was verified.
    """
    every = list(observations)
    if not any(o.recorded for o in every):
        return every
    seen: dict[tuple[str, str, Standby, bool], list[datetime]] = {}
    for o in every:
        if not o.recorded:
            seen.setdefault(_warming(o), []).append(o.at)
    out = []
    for o in every:
        key = _warming(o)
        if o.recorded and any(abs(at - o.at) <= SAME for at in seen.get(key, ())):
            continue
        out.append(o)
        if o.recorded:
            seen.setdefault(key, []).append(o.at)
    return out


def _warming(o: LeadObservation) -> tuple[str, str, Standby, bool]:
    """What is one warming if it is of about the same time; that there was no machine for it is told beside it."""
    return (o.provider, o.node_id, o.came_from, o.outcome == "insufficient_capacity")


def learn_leads(pool: Pool, observations: Sequence[LeadObservation], now: datetime) -> Leads:
    """Fit a lognormal per (provider, zone, type, image, state).

    Location is the weighted median of the logarithms and spread their weighted MAD (robust to a stuck boot), both drawn
    to the next coarser level: image -> type and zone -> type -> provider -> as configured. Failures tell nothing about
    the time and are counted apart; `insufficient_capacity` sets the offering back for a while. A warming of which only
    parts are known was at least as long as these: what is configured is raised to that.

    Args:
        observations: in any order; those after `now` or of other providers are ignored.
    """
    seen = [o for o in observations if o.at <= now and o.outcome in ("ready", "failed", "partial")]
    table: dict[_Key, LeadTime] = {}
    failures: dict[_Key, float] = {}
    fitted_to: dict[_Key, Sequence[Ready]] = {}
    image = _images(pool, seen)
    for group in pool.groups:
        own = [o for o in seen if o.provider == group.provider]
        for offering in group.offerings:
            for state in (Standby.COLD, *sorted(group.standby_states - {Standby.RUNNING, Standby.COLD})):
                levels = _levels(own, offering, state, image.get(group.name, ""))
                key = (group.name, offering.key, state)
                ready = [Ready.of(level, now) for level in levels]
                parts = [Ready.of(level, now, "partial") for level in levels]
                if any(r.seen for r in (*ready, *parts)):
                    least = _at_least(group.lead_time(state), parts)
                    seen_whole = any(r.seen for r in ready)
                    table[key] = _fit([(r.seconds, r.weights) for r in ready], least) if seen_whole else least
                    fitted_to[key] = [Ready.both(*two) for two in zip(ready, parts, strict=True)]
                if any(levels):
                    failures[key] = _failure_rate(levels)
    return Leads(pool, table, failures, _set_back(pool, observations, now), fitted_to)


@dataclass(frozen=True)
class Ready:
    """Observations of one level that went well: the seconds each took, and how much it counts."""

    seen: list[LeadObservation]
    seconds: Floats
    weights: Floats

    @classmethod
    def of(cls, level: list[LeadObservation], now: datetime, outcome: str = "ready") -> "Ready":
        """Those of a level that ended so."""
        seen = [o for o in level if o.outcome == outcome]
        ages = np.array([(now - o.at).total_seconds() for o in seen], dtype=np.float64)
        return cls(seen, np.array([o.seconds for o in seen], dtype=np.float64), np.exp2(-ages / HALF_LIFE_S))

    @classmethod
    def both(cls, one: "Ready", other: "Ready") -> "Ready":
        """The observations of two."""
        seconds, weights = ((one.seconds, other.seconds), (one.weights, other.weights))
        return cls([*one.seen, *other.seen], np.concatenate(seconds), np.concatenate(weights))

    def part(self, stage: str) -> tuple[Floats, Floats]:
        """Seconds of a stage and weights, of those in which it was seen."""
        seconds = np.array([o.stages.get(stage, np.nan) for o in self.seen], dtype=np.float64)
        known = ~np.isnan(seconds)
        return seconds[known], self.weights[known]


def _at_least(configured: LeadTime, parts: Sequence[Ready]) -> LeadTime:
    """What is configured, but no shorter than what parts of the way took alone."""
    known = np.concatenate([p.seconds for p in parts] or [np.empty(0)])
    if not len(known):
        return configured
    middle = max(float(np.median(known)), _SHORTEST_S)
    alone = _fit([(p.seconds, p.weights) for p in parts], LeadTime(middle, 2 * middle))
    return LeadTime(max(configured.median_s, alone.median_s), max(configured.p95_s, alone.p95_s))


def _split(levels: Sequence[Ready]) -> Mapping[str, LeadTime]:
    """Each stage fitted like the whole, leaning on what all observations of it say."""
    out = {}
    for stage in STAGES:
        parts = [level.part(stage) for level in levels]
        times = np.concatenate([seconds for seconds, _ in parts] or [np.empty(0)])
        if len(times):
            middle = max(float(np.median(times)), _SHORTEST_S)
            out[stage] = _fit(parts, LeadTime(middle, 2 * middle))
    return out


def _images(pool: Pool, seen: Iterable[LeadObservation]) -> dict[str, str]:
    """The image each group launches now: that of its latest warming."""
    latest: dict[str, LeadObservation] = {}
    for o in seen:
        if o.pool == pool.name and o.outcome != "partial" and (o.group not in latest or o.at >= latest[o.group].at):
            latest[o.group] = o
    return {g: o.image for g, o in latest.items()}


def _levels(own: list[LeadObservation], offering: Offering, state: Standby, image: str) -> list[list[LeadObservation]]:
    """Observations from the coarsest level to the finest; each stands at the finest level it belongs to only."""
    levels: list[list[LeadObservation]] = [[], [], [], []]
    for o in own:
        if o.came_from is not state:
            continue
        depth = 0
        for same in (o.instance_type == offering.instance_type, o.zone == offering.zone, o.image == image):
            if not same:
                break
            depth += 1
        levels[depth].append(o)
    return levels


def _fit(levels: Iterable[tuple[Floats, Floats]], configured: LeadTime) -> LeadTime:
    """Fit to (seconds, weights) of each level, the coarsest first."""
    mu = math.log(max(configured.median_s, _SHORTEST_S))
    sigma = min(max(configured.sigma, _SIGMA[0]), _SIGMA[1])
    count = 0
    for seconds, weights in levels:
        if not len(seconds):
            continue
        count += len(seconds)
        logs = np.log(np.maximum(seconds, _SHORTEST_S))
        own_mu = _weighted_median(logs, weights)
        own_sigma = _spread(logs, weights, own_mu)
        n = float(weights.sum())
        trust = n / (n + PRIOR_WEIGHT)
        mu = trust * own_mu + (1 - trust) * mu
        # A spread takes a few more observations to be believed than a median.
        trust = n / (n + 2 * PRIOR_WEIGHT)
        sigma = math.sqrt(trust * own_sigma**2 + (1 - trust) * sigma**2)
    sigma = min(max(sigma, _SIGMA[0]), _SIGMA[1])
    return LeadTime(math.exp(mu), math.exp(mu + _Z95 * sigma), count)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    half = reached[-1] / 2
    i = int(np.searchsorted(reached, half - 1e-12))
    if abs(reached[i] - half) < 1e-9 and i + 1 < len(values):
        return float(values[order[i]] + values[order[i + 1]]) / 2
    return float(values[order[i]])


def _spread(logs: np.ndarray, weights: np.ndarray, center: float) -> float:
    """MAD, or the upper tail where that is longer: a lead time is asked for its 95th percentile."""
    deviation = np.abs(logs - center)
    mad = 1.4826 * _weighted_median(deviation, weights)
    if len(logs) < 20:
        return mad
    order = np.argsort(logs, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    p95 = float(logs[order[int(np.searchsorted(reached, 0.95 - 1e-12))]])
    return max(mad, (p95 - center) / _Z95)


def _failure_rate(levels: list[list[LeadObservation]]) -> float:
    bad, n = _FAILURES_PRIOR
    rate = bad / n
    for level in levels:
        failed = sum(o.outcome == "failed" for o in level)
        rate = (failed + rate * n) / (len(level) + n)
    return rate


def _set_back(pool: Pool, observations: Iterable[LeadObservation], now: datetime) -> Mapping[tuple[str, str], datetime]:
    """Offerings to try last, and until when: no capacity a while ago, longer after each repetition; or failing."""
    lacks: dict[tuple[str, str, str], list[LeadObservation]] = {}
    launches: dict[tuple[str, str, str], list[LeadObservation]] = {}
    for o in observations:
        if o.at > now or o.came_from is not Standby.COLD:
            continue
        kept = lacks if o.outcome == "insufficient_capacity" else launches
        kept.setdefault((o.provider, o.instance_type, o.zone), []).append(o)
    until: dict[tuple[str, str, str], datetime] = {}
    for name, seen in lacks.items():
        until[name] = _lacks_until(seen, launches.get(name, []))
    for name, seen in launches.items():
        until[name] = max(_fails_until(seen, now), until.get(name, now))
    named = {(g.name, o.key): until.get(_names(g, o), now) for g in pool.groups for o in g.offerings}
    return {key: end for key, end in named.items() if end > now}


def _lacks_until(lacks: list[LeadObservation], launches: list[LeadObservation]) -> datetime:
    last = max(o.at for o in lacks)
    well = max((o.at for o in launches if o.outcome in ("ready", "partial")), default=None)
    again = [o for o in lacks if (well is None or o.at > well) and last - o.at < timedelta(seconds=INSUFFICIENT_MOST_S)]
    return last + timedelta(seconds=min(INSUFFICIENT_S * 2 ** max(len(again) - 1, 0), INSUFFICIENT_MOST_S))


def _fails_until(launches: list[LeadObservation], now: datetime) -> datetime:
    """Until so few of the late failures are left that they say nothing."""
    late = [o for o in launches if now - o.at < timedelta(seconds=FAILING_S)]
    failed = sorted(o.at for o in late if o.outcome == "failed")
    if len(failed) < _FAILING or len(failed) <= len(late) / 2:
        return now
    return failed[-_FAILING] + timedelta(seconds=FAILING_S)


def _names(group: Group, offering: Offering) -> tuple[str, str, str]:
    return (group.provider, offering.instance_type, offering.zone)
