"""Instances of tasks: processes, containers or jobs, whatever the scheduler of their node runs them as."""

from collections.abc import Mapping
from typing import Final

from preprov.contracts import Allocatable, Holding, ResourceAdjuster, Scheduler, Unit
from preprov.control.context import Context
from preprov.control.observing import observe, of_tasks
from preprov.model.errors import NotFoundError, PoolError, RefusedError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.model.work import TaskRun, run_of

LEASE_S: Final = 120.0
"""Limits of a task end by themselves when nobody has set them again for so long."""


class Tasks:
    """Those that schedulers run as one kind of thing.

    Args:
        ctx: the context.
        kind: as `Scheduler.runs` says. "" = of any.
        known: claimant -> task and instance, of those whose task need not be looked up to be started.
    """

    def __init__(self, ctx: Context, kind: str = "", known: Mapping[str, tuple[TaskRun, int]] | None = None) -> None:
        self.kind = kind
        self._ctx, self._known = ctx, known or {}

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        """As the contract says, from the books: what begins is there before it runs."""
        kinds = self._kinds(pool)
        if self.kind and self.kind not in kinds.values():
            return ()
        first = next(iter(kinds.values()), "")  # of one that has no node yet
        groups = {n.node_id: n.group for n in observe(self._ctx, pool).nodes}
        of = {
            r.claimant: (r, kinds.get(groups.get(r.node_id or "", ""), first))
            for r in of_tasks(self._ctx.ports.ledger.reservations(pool.name))
        }
        return tuple(_unit(r, kind) for _, (r, kind) in sorted(of.items()) if self.kind in ("", kind))

    def _kinds(self, pool: Pool) -> Mapping[str, str]:
        """Group -> what tasks are there."""
        schedulers = self._ctx.schedulers
        return {g.name: schedulers[g.provider].runs for g in pool.groups if g.provider in schedulers}

    def reserve(self, pool: Pool, claim: Reservation, *, exact: bool = False) -> Reservation:
        """As the contract says. `exact`: one that is on the books with another curve is made anew, if it has not begun.

        One under another booking is made anew in any case: it was made before it was known where it would go.
        """
        ledger = self._ctx.ports.ledger
        held = ledger.reserve(claim)
        shifted = exact and held.segments != claim.segments and held.state is ReservationState.SOFT
        if held.under != claim.under or shifted:
            ledger.release(held.reservation_id, "made anew")
            held = ledger.reserve(claim)
        return held

    def allocate(self, pool: Pool, claim: Reservation, node: Node) -> Reservation:
        """As the contract says: it is started."""
        ledger, scheduler = self._ctx.ports.ledger, self._scheduler(pool, node)
        task, instance = self._task(claim)
        bound = ledger.commit(claim.reservation_id, node.node_id, pool.claimable(node.offering), self._ctx.clock.now())
        try:
            scheduler.start(task, instance, node)
        except PoolError as e:
            ledger.release(claim.reservation_id, f"not started: {e.what}")
            raise
        return bound

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        """As the contract says. The books have the larger of both amounts while the change is made."""
        ledger, before, room = self._ctx.ports.ledger, claim.most, pool.claimable(node.offering)
        adjuster, now, wanted = self._adjuster(pool, node), self._ctx.clock.now(), _changed(claim, amount)
        ledger.resize(claim.reservation_id, before.maximum(wanted), room, now)
        try:
            in_force = adjuster.resize(claim.claimant, node, wanted, LEASE_S)
        except PoolError:
            ledger.resize(claim.reservation_id, before, room, now)
            raise
        return ledger.resize(claim.reservation_id, before.maximum(wanted).minimum(in_force), room, now)

    def release(self, pool: Pool, claim: Reservation, node: Node | None, reason: str) -> Reservation:
        """As the contract says: what runs is ended."""
        if node is not None:
            self._scheduler(pool, node).cancel(claim.claimant, node)
        return self._ctx.ports.ledger.release(claim.reservation_id, reason)

    # ---- who does it

    def _scheduler(self, pool: Pool, node: Node) -> Scheduler:
        provider = pool.group(node.group).provider
        try:
            return self._ctx.schedulers[provider]
        except KeyError:
            raise RefusedError(f"nothing starts tasks on nodes of {provider}", where=node.node_id) from None

    def _adjuster(self, pool: Pool, node: Node) -> ResourceAdjuster:
        scheduler: object = self._scheduler(pool, node)
        if not isinstance(scheduler, ResourceAdjuster):
            what = pool.group(node.group).provider
            raise RefusedError(f"what runs on nodes of {what} is not changed", where=pool.name)
        return scheduler

    def _task(self, claim: Reservation) -> tuple[TaskRun, int]:
        found = self._known.get(claim.claimant)
        if found is not None:
            return found
        for task in self._ctx.ports.work.task_runs([run_of(claim.claimant)]):
            for i in range(task.spec.instances):
                if task.claimant(i) == claim.claimant:
                    return task, i
        raise NotFoundError(f"there is no task {claim.claimant}", where=claim.pool, hint="preprov run list")


def _changed(claim: Reservation, amount: Mapping[str, float]) -> Resources:
    """What it has, with these amounts instead.

    Raises:
        RefusedError: one is of something that a task cannot have.
    """
    try:
        return Resources.of({**claim.most.as_dict(), **amount})
    except ValueError as e:
        raise RefusedError(str(e), where=claim.reservation_id) from None


def _unit(claim: Reservation, kind: str) -> Unit:
    held = Holding.ALLOCATED if claim.state is ReservationState.COMMITTED else Holding.RESERVED
    amount, detail = claim.most.as_dict(), f"{claim.state}, until {claim.end:%m-%d %H:%M}Z"
    return Unit(kind, claim.claimant, claim.pool, claim.node_id or "", held, amount, (claim.tenant,), detail)


def types(ctx: Context) -> tuple[Allocatable, ...]:
    """One for each thing that schedulers run tasks as."""
    return tuple(Tasks(ctx, kind) for kind in dict.fromkeys(s.runs for s in ctx.schedulers.values()))


def type_for(ctx: Context, pool: Pool, claim: Reservation, node: Node | None) -> Allocatable | None:
    """A task's is what the scheduler of its node runs."""
    if claim.purpose is not Purpose.TASK:
        return None
    scheduler = ctx.schedulers.get(pool.group(node.group).provider) if node is not None else None
    return Tasks(ctx, scheduler.runs if scheduler is not None else "")
