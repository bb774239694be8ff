"""A lower bound on what any policy can pay for a given mean delay or wait, lead times and billing included.

*Delay* of an instance = its start less the instant at which it would have started had nothing in its run waited; for
tasks without parents it is their wait. *Wait* = its start less the instant at which its own parents had ended. How the
bound comes about:

1. **No delay.** n(t), the nodes that the demand at t fills if tasks could be cut to fit, must be ready at t. Seen level
   by level (level j is wanted while n(t) >= j), what lies between two uses of a level costs at least the cheapest of:
   keep it running, hibernate or stop it and start it again, launch anew. Costs of a gap are concave in its length, so
   serving nested levels each on its own is optimal (an exchange argument), and the sum over levels is the least cost.
2. **Some delay.** Spread what each use of a level costs at its beginning evenly over that use. No life of a node costs
   less than the sum of these prices over it, so they are feasible prices of the dual programme, whatever the demand
   that is left. Delaying one instance by a second takes its share of a node from one second of nominal demand; what
   that can save at most is the price of the level it makes superfluous over the amount it takes to do so (concave
   majorant). The best that a total delay can save is then a fractional knapsack: the dearest seconds first.
3. **Much delay.** All work must run at some time, at the price of the room it fills, less what delay can push past the
   end.

The larger of 2 and 3 is the bound. One in waits follows, and is lower, for one instance that waits delays all that come
after it in its run: an instance's delay is at most the waits on one path to it, so that a second's wait takes away no
more demand than the shares of the instance and of all that descend from it together (`replay.reach`). In 2 and 3 a
second then counts for as much instead of the instance's own share.

Precedence and fragmentation are taken in the policy's favour. With random lead
times it bounds the expected cost; a launch then counts with the least expected time that gets one node ready, giving up
slow ones included.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Final

import numpy as np

from preprov.model.offerings import LeadTime, Standby
from preprov.model.pools import Pool
from preprov.model.time import epoch
from preprov.model.worktable import Array, WorkTable
from preprov.replay.load import Load, make_load, screen
from preprov.replay.reach import reach_of

_HOUR: Final = 3600.0
_SIZES: Final = 8
_LEVELS: Final = 24
_DUST: Final = 1e-9
_LEAST: Final = 1e-300
_NORMAL: Final = NormalDist()


_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1800.0)
_HALVINGS: Final = 60


@dataclass(frozen=True)
class Saved:
    """seconds: (K,) in all, ascending; usd: (K,) the most that so many can save."""

    seconds: Array
    usd: Array

    def at(self, seconds: float) -> float:
        """The most that so many seconds save."""
        # What saves at no seconds at all stands at the same abscissa several times: the last of these counts.
        i = int(np.searchsorted(self.seconds, seconds, side="right"))
        if i == len(self.seconds):
            return float(self.usd[-1])
        x, y = self.seconds[i - 1 : i + 1], self.usd[i - 1 : i + 1]
        return float(y[0] + (y[1] - y[0]) * (seconds - x[0]) / (x[1] - x[0]))


@dataclass(frozen=True)
class LowerBound:
    """Least cost by mean delay, and by mean wait.

    Attributes:
        instances: judged ones. no_delay_usd: the least cost of serving all at once.
        work_usd: price of the room that the work fills.
        by_delay: what seconds of delay save of either: fewer nodes, work pushed past the end. by_wait: seconds of wait,
            those that a limit of nodes causes among them.
    """

    instances: int
    no_delay_usd: float
    work_usd: float
    by_delay: tuple[Saved, Saved]
    by_wait: tuple[Saved, Saved]

    def cost(self, mean_delay_s: float) -> float:
        """USD that no policy with this mean delay stays under."""
        return self._cost(self.by_delay, mean_delay_s)

    def cost_of_wait(self, mean_wait_s: float) -> float:
        """USD that no policy with this mean wait stays under."""
        return self._cost(self.by_wait, mean_wait_s)

    def _cost(self, saved: tuple[Saved, Saved], mean_s: float) -> float:
        nodes, out = (part.at(mean_s * self.instances) for part in saved)
        return max(self.no_delay_usd - nodes, self.work_usd - out, 0.0)

    def curve(self, seconds: Sequence[float] | None = None) -> list[dict[str, float]]:
        """Rows mean_wait_s, mean_delay_s, cost_usd, by falling cost; between two of them the later one's cost holds.

        Nobody who waits no longer, or is delayed no longer, pays less. What the last row says holds for whatever is
        beyond it too.

        Args:
            seconds: of which there is a row for the wait, and one for the delay; None = some up to half an hour, and
                where no more can be saved.
        """
        ends = [
            max(float(s.seconds[-1]) for s in saved) / max(self.instances, 1) for saved in (self.by_wait, self.by_delay)
        ]
        rows: list[tuple[float, float, float]] = []
        for s in seconds or _SECONDS:
            if abs(self.cost_of_wait(s) - self.cost(s)) <= _DUST:
                rows.append((s, s, self.cost_of_wait(s)))
                continue
            rows.append((s, _last(self.cost, self.cost_of_wait(s), ends[1]), self.cost_of_wait(s)))
            if self.cost_of_wait(0.0) >= self.cost(s):
                rows.append((_last(self.cost_of_wait, self.cost(s), ends[0]), s, self.cost(s)))
        if seconds is None:
            rows.append((ends[0], ends[1], self.cost(ends[1])))
        rows.sort(key=lambda r: (-r[2], r[0]))
        return [{"mean_wait_s": w, "mean_delay_s": d, "cost_usd": usd} for w, d, usd in rows]


def _last(cost: Callable[[float], float], usd: float, end: float) -> float:
    """The most seconds at which a falling cost is still so much; `end` if it falls no lower."""
    if cost(end) >= usd - _DUST:
        return end
    low, high = 0.0, end
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) >= usd else (low, middle)
    return low


@dataclass(frozen=True)
class _Demand:
    """Judged work as if nothing waited: (N,) start, end (epoch s), node share of one instance, instances, row of load.

    The instances of a gang wait together and each of them counts, so that they are no different here.
    """

    start: Array
    end: Array
    share: Array
    instances: Array
    rows: Array


def lower_bound(
    work: WorkTable, pool: Pool, *, judged_from: datetime, until: datetime, most_cores: float | None = None
) -> LowerBound:
    """The bound for the judged window of a replay; costs are those billed within it.

    Args:
        work: nominal timing, by submit.
        pool: the cheapest price, the biggest node and the shortest leads of its offerings count.
        judged_from: beginning of the window.
        until: its end.
        most_cores: as in `replay`.
    """
    first, last = epoch(judged_from), epoch(until)
    work, why = screen(work, pool, most_cores)
    load = make_load(work, why, pool, start=first, judged_from=first, until=last)
    demand = _demand(load.work, pool, load.judged, load.ready, load.runtime, load.weight, last)
    usd_s = min(o.usd_per_hour or 0.0 for g in pool.groups for o in g.offerings) / _HOUR
    gap = _gap_cost(pool, usd_s)
    times, level = _steps(demand)
    uses = _uses(times, np.ceil(level - _DUST).astype(np.int64), first, gap)
    no_delay = float(((uses[:, 2] - uses[:, 1]) * usd_s + uses[:, 3]).sum()) if len(uses) else 0.0
    work_usd = float(((demand.end - demand.start) * demand.share * demand.instances).sum()) * usd_s
    pushed = (demand.end - demand.start) * demand.share * usd_s / np.maximum(last - demand.start, _DUST)
    free = ~load.judged & (load.ready < first) & (np.array(load.shape) >= 0)
    by_delay, by_wait = (
        (_savings(demand, times, level, uses, usd_s, per_s), _pushed_out(demand, usd_s, out_per_s))
        for per_s, out_per_s in (
            (demand.share, pushed),
            (_held_up(load, demand, demand.share, free), _held_up(load, demand, pushed, free)),
        )
    )
    return LowerBound(int(load.weight[load.judged].sum()), no_delay, work_usd, by_delay, by_wait)


def _demand(
    work: WorkTable, pool: Pool, judged: Array, ready: Array, runtime: Array, weight: Array, last: float
) -> _Demand:
    t = work.tasks
    rooms = [o.allocatable for g in pool.groups for o in g.offerings]
    cpu = max(r.cpu for r in rooms) or math.inf
    memory = max(r.memory for r in rooms) or math.inf
    share = np.zeros(len(t))
    for name, most in (("cpu", cpu), ("memory", memory)):
        if name in pool.binding:
            share = np.maximum(share, t[name].to_numpy(dtype=np.float64) / most)
    keep = judged & (runtime > 0) & (share > 0)
    end = np.minimum(ready + runtime, last)
    return _Demand(ready[keep], end[keep], share[keep], weight[keep].astype(float), np.flatnonzero(keep))


def _held_up(load: Load, demand: _Demand, worth: Array, free: Array) -> Array:
    """(N,) what a second of waiting takes away at most, of `worth` (N,) of an instance that is delayed by one."""
    every, count = np.zeros(len(load.rows)), np.zeros(len(load.rows))
    every[demand.rows], count[demand.rows] = worth, demand.instances
    work = load.work
    reach = reach_of(every, count, work.tasks["run"].to_numpy(), work.parents, work.children, free)
    mine: Array = reach[demand.rows]
    return mine


def _steps(demand: _Demand) -> tuple[Array, Array]:
    """(K+1,) instants and (K,) nodes' worth of demand between them."""
    if not len(demand.start):
        return np.zeros(1), np.zeros(0)
    amount = demand.share * demand.instances
    times, place = np.unique(np.concatenate([demand.start, demand.end]), return_inverse=True)
    level = np.cumsum(np.bincount(place, weights=np.concatenate([amount, -amount])))[:-1]
    return times, np.maximum(level, 0.0)


def _gap_cost(pool: Pool, usd_s: float) -> Callable[[float], float]:
    """USD of having a node again after so many seconds without use: the cheapest way, over all groups."""
    cold = min(least_expected_s(g.lead_time(Standby.COLD)) for g in pool.groups) * usd_s
    kept = [
        (least_expected_s(g.lead_time(s)), g.standby_usd_per_hour.get(s, 0.0) / _HOUR)
        for g in pool.groups
        for s in g.standby_states
        if s in (Standby.STOPPED, Standby.HIBERNATED)
    ]

    def cost(seconds: float) -> float:
        # The way back lies within the gap: it is paid as running, the rest as kept.
        return min(cold, usd_s * seconds, *(back * (usd_s - keep) + keep * seconds for back, keep in kept))

    return cost


def least_expected_s(lead: LeadTime) -> float:
    """Least expected billed seconds until one node is ready, if a node not ready after x seconds may be given up.

    E[min(L, x)] / P(L <= x) over x, L lognormal.
    """
    if lead.median_s == 0 or lead.sigma == 0:
        return lead.median_s
    best = lead.mean_s
    for z in np.linspace(-3.0, 4.0, 141).tolist():
        x = lead.median_s * math.exp(lead.sigma * z)
        reached = _NORMAL.cdf(z)
        within = lead.mean_s * _NORMAL.cdf(z - lead.sigma)
        best = min(best, (within + x * (1 - reached)) / reached)
    return best


def _uses(times: Array, nodes: Array, first: float, gap: Callable[[float], float]) -> Array:
    """(U, 4): level, start, end, and the cost of having a node for it at its start, for each use of each level."""
    out: list[tuple[float, float, float, float]] = []
    begun: list[float] = []
    ended: list[float] = []
    now = 0
    for at, n in zip(times.tolist(), [*nodes.tolist(), 0], strict=True):
        for j in range(now, n):
            if j == len(ended):
                ended.append(first)
                begun.append(at)
            begun[j] = at
        for j in range(n, now):
            out.append((j, begun[j], at, gap(begun[j] - ended[j])))
            ended[j] = at
        now = n
    return np.array(out).reshape(-1, 4)


def _savings(demand: _Demand, times: Array, level: Array, uses: Array, usd_s: float, per_s: Array) -> Saved:
    """The best savings first; `per_s`: (N,) nodes' worth that one second takes away."""
    if not len(uses):
        return Saved(np.zeros(1), np.zeros(1))
    rates = _rates(times, np.ceil(level - _DUST).astype(np.int64), uses, usd_s)
    widths, prices = _pieces(level, rates)
    pieces_s, pieces_usd = [], []
    taken = np.zeros(len(level))
    length = np.diff(times)
    for size, amount in _sizes(demand, times, per_s):
        # This size is taken off after the bigger ones, down through the levels, the dearest first.
        upper, depth = taken + amount, np.zeros(len(level))
        for width, rate in zip(widths, prices, strict=True):
            overlap = np.clip(np.minimum(upper, depth + width) - np.maximum(taken, depth), 0.0, None)
            some = overlap > 0
            pieces_s.append((overlap * length)[some] / size)
            pieces_usd.append((overlap * length * rate)[some])
            depth = depth + width
        taken = upper
    return _best_first(np.concatenate(pieces_s), np.concatenate(pieces_usd))


def _best_first(seconds: Array, usd: Array) -> Saved:
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(-np.nan_to_num(usd / seconds, nan=np.inf), kind="stable")
    return Saved(np.append(0.0, np.cumsum(seconds[order])), np.append(0.0, np.cumsum(usd[order])))


def _sizes(demand: _Demand, times: Array, per_s: Array) -> list[tuple[float, Array]]:
    """(nodes' worth that one second takes away, (K,) nodes' worth of that size running), biggest first.

    Sizes are rounded up to a few: a bigger piece saves more per second, never less.
    """
    ranks = np.ceil(np.linspace(0, 1, _SIZES + 1)[1:] * (len(per_s) - 1)).astype(np.int64)
    bounds = np.unique(np.sort(per_s)[ranks])
    size = np.searchsorted(bounds, per_s)
    out = []
    for s in range(len(bounds) - 1, -1, -1):
        mine = size == s
        amount = (demand.share * demand.instances)[mine]
        start = np.searchsorted(times, demand.start[mine])
        end = np.searchsorted(times, demand.end[mine])
        change = np.bincount(start, amount, len(times)) - np.bincount(end, amount, len(times))
        out.append((float(bounds[s]), np.maximum(np.cumsum(change)[:-1], 0.0)))
    return out


def _rates(times: Array, nodes: Array, uses: Array, usd_s: float) -> Array:
    """(L, K): price per second of the topmost level, of the next groups of levels below it, …, never rising.

    Row 0 is the topmost level alone; row g stands for a group of levels, at the dearest of their prices and of all
    below: a saving is never put too low.
    """
    starts = np.searchsorted(times, uses[:, 1])
    ends = np.searchsorted(times, uses[:, 2])
    price = usd_s + uses[:, 3] / np.maximum(uses[:, 2] - uses[:, 1], _DUST)
    groups = _group_of(int(nodes.max(initial=0)))
    out = np.zeros((groups.max() + 1, len(nodes)))
    for level, a, b, usd in zip(uses[:, 0].astype(int).tolist(), starts, ends, price.tolist(), strict=True):
        rows = groups[nodes[a:b] - 1 - level]
        columns = np.arange(a, b)
        out[rows, columns] = np.maximum(out[rows, columns], usd)
    falling: Array = np.maximum.accumulate(out[::-1], axis=0)[::-1]
    return falling


def _group_of(most: int) -> Array:
    """(most,) group of a level by how many levels lie above it: few groups, finer near the top."""
    depth = np.arange(max(most, 1))
    if most <= _LEVELS:
        return depth
    edges = np.unique(np.concatenate([np.arange(8), np.geomspace(8, most, _LEVELS - 8)]).astype(np.int64))
    return np.searchsorted(edges, depth, side="right") - 1


def _pieces(level: Array, rates: Array) -> tuple[list[Array], list[Array]]:
    """Widths (nodes' worth) and USD per second and node's worth of what can be taken off, from the top down."""
    nodes = np.ceil(level - _DUST)
    groups = _group_of(int(nodes.max(initial=0)))
    counts = np.bincount(groups)
    top = np.where(nodes > 0, np.clip(level - (nodes - 1), _DUST, 1.0), 0.0)
    below = rates[1] if len(rates) > 1 else rates[0]
    widths, prices = [top], [np.maximum(rates[0] / np.maximum(top, _DUST), below)]
    left = np.maximum(nodes - 1, 0.0)
    for g in range(1, len(rates)):
        width = np.minimum(left, counts[g])
        widths.append(width)
        prices.append(rates[g])
        left = left - width
    return widths, prices


def _pushed_out(demand: _Demand, usd_s: float, per_s: Array) -> Saved:
    """Work that runs past the end, the most per second first; `per_s`: (N,) USD of it that one second pushes out."""
    if not len(demand.start):
        return Saved(np.zeros(1), np.zeros(1))
    usd = (demand.end - demand.start) * demand.share * demand.instances * usd_s
    return _best_first(usd / np.maximum(per_s, _LEAST), usd)
