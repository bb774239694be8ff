"""A lower bound on what any policy can pay for a given mean delay, lead times and billing included.

*Delay* of an instance = its start less the instant at which it would have started had nothing in its run waited; for
tasks without parents it is their wait. How it comes about:

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

The larger of 2 and 3 is the bound. Precedence and fragmentation are taken in the policy's favour. With random lead
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

from preprov.model.pools import LeadTime, Pool, Standby
from preprov.model.time import epoch
from preprov.model.worktable import Array, WorkTable
from preprov.replay.load import make_load, screen

_HOUR: Final = 3600.0
_SIZES: Final = 8
_LEVELS: Final = 24
_DUST: Final = 1e-9
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class LowerBound:
    """Least cost by mean delay.

    Attributes:
        instances: judged ones. no_delay_usd: the least cost of serving all at once.
        delay_s: (K,) total delay, ascending. saved_usd: (K,) the most it can save.
        work_usd: price of the room that the work fills. out_s: (M,) total delay. out_usd: (M,) work it can push out.
    """

    instances: int
    no_delay_usd: float
    delay_s: Array
    saved_usd: Array
    work_usd: float
    out_s: Array
    out_usd: Array

    def cost(self, mean_delay_s: float) -> float:
        """USD that no policy with this mean delay stays under."""
        total = mean_delay_s * self.instances
        saved = float(np.interp(total, self.delay_s, self.saved_usd))
        out = float(np.interp(total, self.out_s, self.out_usd))
        return max(self.no_delay_usd - saved, self.work_usd - out, 0.0)

    def curve(self, delays: Sequence[float] | None = None) -> list[dict[str, float]]:
        """Rows mean_wait_s, cost_usd."""
        given = delays or (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 600.0)
        return [{"mean_wait_s": float(d), "cost_usd": self.cost(d)} for d in given]


@dataclass(frozen=True)
class _Demand:
    """Judged work as if nothing waited: (N,) start, end (epoch s), node share of one instance, instances.

    The instances of a gang wait together and each of them counts, so that they are no different here.
    """

    start: Array
    end: Array
    share: Array
    instances: Array


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
    delay, saved = _savings(demand, times, level, uses, usd_s)
    seconds = demand.end - demand.start
    out_s, out_usd = _pushed_out(demand, last, usd_s)
    work_usd = float((seconds * demand.share * demand.instances).sum()) * usd_s
    return LowerBound(int(load.weight[load.judged].sum()), no_delay, delay, saved, work_usd, out_s, out_usd)


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
    return _Demand(ready[keep], end[keep], share[keep], weight[keep].astype(float))


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


def _savings(demand: _Demand, times: Array, level: Array, uses: Array, usd_s: float) -> tuple[Array, Array]:
    """(delay seconds, USD saved), both cumulative, the best savings first."""
    if not len(uses):
        return np.zeros(1), np.zeros(1)
    rates = _rates(times, np.ceil(level - _DUST).astype(np.int64), uses, usd_s)
    widths, prices = _pieces(level, rates)
    pieces_s, pieces_usd = [], []
    taken = np.zeros(len(level))
    length = np.diff(times)
    for share, amount in _sizes(demand, times):
        # This size is taken off after the bigger ones, down through the levels, the dearest first.
        upper, depth = taken + amount, np.zeros(len(level))
        for width, rate in zip(widths, prices, strict=True):
            overlap = np.clip(np.minimum(upper, depth + width) - np.maximum(taken, depth), 0.0, None)
            some = overlap > 0
            pieces_s.append((overlap * length)[some] / share)
            pieces_usd.append((overlap * length * rate)[some])
            depth = depth + width
        taken = upper
    seconds, usd = np.concatenate(pieces_s), np.concatenate(pieces_usd)
    order = np.argsort(-usd / seconds, kind="stable")
    return np.append(0.0, np.cumsum(seconds[order])), np.append(0.0, np.cumsum(usd[order]))


def _sizes(demand: _Demand, times: Array) -> list[tuple[float, Array]]:
    """(nodes' worth that one second of delay takes away, (K,) nodes' worth of that size running), biggest first.

    Sizes are rounded up to a few: a bigger piece saves more per second of delay, never less.
    """
    bounds = np.unique(np.quantile(demand.share, np.linspace(0, 1, _SIZES + 1)[1:], method="higher"))
    size = np.searchsorted(bounds, demand.share)
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


def _pushed_out(demand: _Demand, last: float, usd_s: float) -> tuple[Array, Array]:
    """(delay seconds, USD of work that ran past the end), cumulative, the most per second first."""
    if not len(demand.start):
        return np.zeros(1), np.zeros(1)
    delay = (last - demand.start) * demand.instances
    usd = (demand.end - demand.start) * demand.share * demand.instances * usd_s
    order = np.argsort(-usd / np.maximum(delay, _DUST), kind="stable")
    return np.append(0.0, np.cumsum(delay[order])), np.append(0.0, np.cumsum(usd[order]))
