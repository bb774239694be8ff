"""Who goes first among tenants, where there is not enough for all: the one with the least of what it is due."""

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Final

from preprov.model.resources import ZERO, Resources
from preprov.planning.order import ReadyTask

_USUAL_SHARE: Final = 1.0


def fair_order(
    tasks: Sequence[ReadyTask],
    held: Mapping[str, Resources],
    whole: Resources,
    shares: Mapping[str, float],
) -> tuple[ReadyTask, ...]:
    """The same tasks, tenants taking turns among those of equal priority; each tenant's own keep their order.

    The next is always of the tenant whose dominant share, the largest of its shares of the resources, is smallest for
    its weight, as weighted dominant resource fairness has it (Ghodsi et al., NSDI 2011).

    Args:
        tasks: in launch order. held: what tenants have already. whole: what there is to share.
        shares: weight of a tenant; 1 if it is not named.
    """
    if len({t.tenant for t in tasks}) < 2:
        return tuple(tasks)
    have = dict(held)
    out: list[ReadyTask] = []
    at = 0
    while at < len(tasks):
        end = at
        while end < len(tasks) and tasks[end].priority == tasks[at].priority:
            end += 1
        out.extend(_taking_turns(tasks[at:end], have, whole, shares))
        at = end
    return tuple(out)


def _taking_turns(
    tasks: Sequence[ReadyTask], have: dict[str, Resources], whole: Resources, shares: Mapping[str, float]
) -> list[ReadyTask]:
    """Of one priority; `have` grows by what is given out."""
    queues: dict[str, list[ReadyTask]] = {}
    for t in tasks:
        queues.setdefault(t.tenant, []).append(t)
    for q in queues.values():
        q.reverse()

    def due(tenant: str) -> tuple[float, str]:
        share = have.get(tenant, ZERO).share_of(whole)
        weight = shares.get(tenant, _USUAL_SHARE)
        return (share / weight if weight > 0 else math.inf), tenant

    turns = [due(t) for t in queues]
    heapq.heapify(turns)
    out = []
    while turns:
        _, tenant = heapq.heappop(turns)
        task = queues[tenant].pop()
        out.append(task)
        have[tenant] = have.get(tenant, ZERO) + task.amount
        if queues[tenant]:
            heapq.heappush(turns, due(tenant))
    return out
