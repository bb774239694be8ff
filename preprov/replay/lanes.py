"""Which nodes a policy that knows one count of nodes is played on, where a pool has several offerings.

Such a policy says how many nodes there should be, not which. On a pool of unlike offerings it is therefore played once
for each *lane*: tasks that go together on one offering, parted as the product parts them for its plans. The parting is
made from the whole trace, what is still to come included: whoever set up such a pool knew what would run on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources
from preprov.model.worktable import Array, WorkTable
from preprov.planning.lanes import lane_of, lanes_of
from preprov.planning.packing import Kind, coarser
from preprov.replay.load import UNITS, capacities, shapes_of

Place: TypeAlias = tuple[str, Offering]
"""An offering in the group of that name."""


@dataclass(frozen=True)
class Lane:
    """Tasks that are served by nodes of their own.

    Attributes:
        places: what is launched for them: the first as long as it can be had, then the next. All hold all of them.
        pool: the pool with nothing but the first place. tasks: (T,) bool, rows of the trace.
    """

    places: tuple[Place, ...]
    pool: Pool
    tasks: Array

    def of(self, work: WorkTable) -> WorkTable:
        """The trace, all other tasks wanting nothing."""
        if self.tasks.all():
            return work
        t = work.tasks
        amounts = {k: np.where(self.tasks, t[k], 0.0) for k in KINDS}
        return WorkTable(work.runs, t.assign(**amounts), work.parents, work.children)


def lanes_for(work: WorkTable, pool: Pool) -> tuple[Lane, ...]:
    """The lanes of a pool on a trace, each with its rows; one lane, all rows in it, if there is one offering.

    Args:
        work: what is played, as `screen` returns it.
        pool: an offering without a price counts as 1 USD an hour.
    """
    places = [(g.name, o) for g in pool.groups for o in g.offerings]
    if len(places) == 1:
        return (Lane(tuple(places), pool, np.ones(len(work.tasks), dtype=bool)),)
    number, shapes, ranks = shapes_of(work, pool)
    sizes, size_of = np.unique(
        np.array([(s.cpu, s.memory, s.gpu) for s in shapes]).reshape(-1, 3), axis=0, return_inverse=True
    )
    size = np.where(number >= 0, size_of.reshape(-1)[number], -1) if len(shapes) else number
    t = work.tasks
    runtime = np.nan_to_num(t["runtime_s"].to_numpy(dtype=np.float64))
    count = np.where(ranks > 0, ranks, np.maximum(t["instances"].to_numpy(dtype=np.int64), 1))
    weight = np.bincount(size[size >= 0], (runtime * count)[size >= 0], len(sizes))
    wanted = np.unique(size[size >= 0]).tolist()
    if not wanted:
        return (Lane(tuple(places), _only(pool, places[0]), np.ones(len(t), dtype=bool)),)
    lane = np.full(len(sizes) + 1, -1)  # the last is that of what wants nothing
    parted = _parted(pool, places, sizes, weight, wanted)
    for i, (_, members) in enumerate(parted):
        lane[members] = i
    return tuple(
        Lane(tuple(places[p] for p in at), _only(pool, places[at[0]]), lane[size] == i)
        for i, (at, _) in enumerate(parted)
    )


def _parted(
    pool: Pool, places: Sequence[Place], sizes: Array, weight: Array, wanted: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """(positions of places, the cheapest first; positions of sizes) of each lane."""
    rooms = np.array([(r.cpu, r.memory, r.gpu) for r in capacities(pool)])
    holds: Array = np.all(sizes[:, None, :] <= rooms[None, :, :], axis=2)
    usd = np.array([1.0 if o.usd_per_hour is None else o.usd_per_hour for _, o in places])
    total = np.maximum(weight, 1e-9)[:, None] * sizes

    def by_price(members: Sequence[int], among: Sequence[int]) -> list[int]:
        """Places that hold them all, by what their nodes would cost."""
        most = (total[list(members)].sum(axis=0) / np.maximum(rooms, 1e-9)).max(axis=1) * usd
        return sorted((p for p in among if holds[list(members), p].all()), key=lambda p: most[p])

    shapes = lanes_of(pool, _kinds(sizes, weight, wanted), lambda o: o.usd_per_hour)
    by_lane: dict[int, list[int]] = {}
    for i in wanted:
        by_lane.setdefault(lane_of(pool, shapes, _resources(sizes[i]), {}) or 0, []).append(i)
    keys = {(g, o.key): p for p, (g, o) in enumerate(places)}
    found: dict[int, tuple[list[int], list[int]]] = {}

    def add(at: list[int], members: list[int]) -> None:
        before = found.get(at[0])
        found[at[0]] = (at, members) if before is None else ([at[0]], before[1] + members)

    for lane, members in by_lane.items():
        at = by_price(members, sorted(keys[key] for key in shapes[lane].offerings))
        if at:
            add(at, members)
            continue
        for i in members:  # nothing that the lane has holds all of it: each size goes where it fits at least cost
            add(by_price([i], range(len(places)))[:1], [i])
    return [([first, *(p for p in at[1:] if p not in found)], members) for first, (at, members) in found.items()]


def _kinds(sizes: Array, weight: Array, wanted: Sequence[int]) -> list[Kind]:
    alike: dict[Resources, float] = {}
    for i in wanted:
        request = Resources(*coarser(np.array(_resources(sizes[i]).as_tuple())).tolist())
        alike[request] = alike.get(request, 0.0) + max(float(weight[i]), 1e-9)
    return [Kind(request, count) for request, count in alike.items()]


def _resources(size: Array) -> Resources:
    cpu, memory, gpu = (float(v) for v in size)
    return Resources(cpu=cpu / UNITS.cpu, memory=memory / UNITS.memory, gpu=gpu / UNITS.gpu)


def _only(pool: Pool, place: Place) -> Pool:
    name, offering = place
    return replace(pool, groups=(replace(pool.group(name), offerings=(offering,)),))
