"""Slurm's cloud nodes as a pool: a launch is an order to power up, and Slurm calls the vendor by its ResumeProgram.

Slurm owns the counts. It powers nodes up for its queue and down when they idle; preprov adds what is to be warm before
the queue knows of it, keeps that from the idle timer, and has what is superfluous drained and powered down, so that no
running job is ever touched. If preprov dies, SuspendTime ends what it raised: that is the lease.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from preprov.contracts import Capabilities, Clock, Examined, Finding, LaunchRequest, Recollection
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NodeBusyError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
)
from preprov.model.nodes import Node, PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.model.time import Timescale, from_epoch
from preprov.pools.slurm import view
from preprov.pools.slurm.examining import examine
from preprov.pools.slurm.marks import Marks
from preprov.pools.slurm.options import SlurmGroup, Vendor, slurm_group, slurm_groups
from preprov.pools.slurm.recall import recall
from preprov.pools.slurm.reserved import kept_apart, what_is_kept
from preprov.pools.slurm.touching import Toucher, give_back
from preprov.pools.slurm.vendors import keeps
from preprov.pools.slurm.view import Place
from preprov.pools.slurm.weighing import behind, own, weigh
from preprov.slurm.commands import Connect, connect
from preprov.slurm.errors import SlurmError
from preprov.slurm.records import SlurmJob, SlurmNode
from preprov.slurm.troubles import as_pool_errors

log = structlog.get_logger(__name__)


class SlurmProvider:
    """Nodes of Slurm; options of a group as `options.slurm_group` reads them.

    Args:
        clock: instants given to and taken from this object are on it.
        vendor: gives the provider that makes the machines.
        speed: seconds of the clock per wall second; Slurm itself lives in wall time.
        connect: gives the commands of a cluster.
    """

    name = "slurm"

    def __init__(self, clock: Clock, vendor: Vendor, *, speed: float = 1.0, connect: Connect = connect) -> None:
        self._clock = clock
        self._vendor = vendor
        self._scale = Timescale.between(time.time(), clock.now(), speed)
        self._connect = connect
        self._toucher = Toucher()

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """What the vendor can keep and give back by name; nodes of one partition are alike.

        Between plans Slurm itself wakes nodes for its jobs and suspends idle ones: two reactions would work against
        each other.
        """
        ours = slurm_group(pool, group)
        vendor = self._vendor(ours.vendor)
        theirs = vendor.capabilities(ours.theirs, group)
        return Capabilities(
            standby_states=keeps(ours, vendor),
            mixes_states=theirs.mixes_states,
            chooses_offering=False,
            preloads=False,
            steps_down=theirs.steps_down,
            reacts=False,
        )

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; a group whose cluster or whose vendor does not answer makes it incomplete."""
        nodes: list[Node] = []
        failed: list[Node] = []
        problems: list[str] = []
        complete = True
        withheld: dict[str, int] = {}
        for group in slurm_groups(pool):
            try:
                found, said, whole = self._look(group)
            except (SlurmError, PoolError) as e:
                complete = False
                problems.append(f"{group.group.name}: {e}")
                continue
            problems.extend(said)
            complete = complete and whole
            shown = {place.name: self._shown(group, place) for place in found.values()}
            nodes.extend(n for some in shown.values() for n in some)
            mine = (p for p in found.values() if _is_ours(group, p))
            failed.extend(n for p in mine if (n := view.failed(group, p, self._scale)) is not None)
            kept = sum(bool(p.kept_for) and not shown[p.name] for p in found.values())
            withheld |= {group.group.name: kept} if kept else {}
        now = self._clock.now()
        return PoolObservation(pool.name, now, tuple(nodes), complete, tuple(problems), withheld, tuple(failed))

    def _look(self, group: SlurmGroup) -> tuple[dict[str, Place], tuple[str, ...], bool]:
        """(places by name, problems, whether everything was seen)."""
        slurm = self._connect(group.conf)
        seen = self._vendor(group.vendor).observe(group.theirs)
        found = view.places(group, slurm.nodes(), slurm.jobs(), seen.nodes)
        found = kept_apart(found, slurm.reservations(), time.time())
        missing = [p.name for p in found.values() if p.slurm is None]
        said = [f"{group.group.name}: Slurm knows no node {', '.join(missing[:5])}"] if missing else []
        stray = sorted(m.node_id for p in found.values() for m in p.older)
        said += [f"{group.group.name}: machines that were replaced and not ended: {', '.join(stray)}"] if stray else []
        untouched = self._toucher.failed(found.values())
        said += (
            [f"{group.group.name}: Slurm did not keep {', '.join(untouched)} from its idle timer"] if untouched else []
        )
        said += [f"{group.group.name}: {text}" for text in what_is_kept(found)]
        down = (p.slurm for p in found.values() if p.slurm is not None and p.slurm.is_down)
        said += [f"{group.group.name}: {n.name} is DOWN: {n.reason}" for n in down if n.reason.startswith(view.OURS)]
        return found, (*seen.problems, *said), seen.complete

    def _shown(self, group: SlurmGroup, place: Place) -> list[Node]:
        if not _is_ours(group, place):
            return []
        node = view.node(group, place, self._scale, self._clock.now())
        return [node] if node is not None else []

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says: names that are free are powered up, the lightest first.

        Whether the vendor has a machine shows later: its refusal sets the node DOWN with the reason, and the next
        observation has it no more.
        """
        group = slurm_group(request.pool, request.group)
        with as_pool_errors(group.where):
            found, _, _ = self._look(group)
            mine = [p for p in found.values() if p.marks.token == request.token]
            alive = [p.name for p in mine if self._exists(p)]
            over = len(mine) - len(alive) + sum(request.token in p.marks.past for p in found.values())
            short = request.count - len(alive) - over
            if short <= 0:
                return tuple(alive[: request.count])
            chosen = self._free(group, found, short, some_already=bool(alive or over))
            at = time.time()
            for p in chosen:
                marks = p.marks.launched(group.pool.name, request.token, at, request.tags)
                self._order_up(group, p, marks)
        return (*alive, *(p.name for p in chosen))

    def _order_up(self, group: SlurmGroup, place: Place, marks: Marks) -> None:
        self._connect(group.conf).update_nodes(
            [place.name], extra=marks.write(), state="power_up", **_weight(group, place)
        )

    def _exists(self, place: Place) -> bool:
        s = place.slurm
        return s is not None and (s.is_coming or not s.is_gone or place.machine is not None)

    def _free(self, group: SlurmGroup, found: dict[str, Place], wanted: int, *, some_already: bool) -> list[Place]:
        """The names to power up.

        Raises:
            QuotaExceededError, InsufficientCapacityError: there is none, and the token has none already.
        """
        free = [p for p in found.values() if p.is_free]
        free.sort(key=lambda p: own(p.slurm.weight) if p.slurm else 0)
        used = sum(self._exists(p) for p in found.values())
        limit = min(group.group.max_nodes, len(group.names))
        chosen = free[: max(min(wanted, limit - used), 0)]
        if chosen or some_already:
            return chosen
        if used >= limit:
            raise QuotaExceededError(
                f"the group has {used} nodes of {limit}", where=group.where, hint="raise max_nodes, or name more nodes"
            )
        raise InsufficientCapacityError(
            f"none of {len(group.names)} names is free: the others are down, drained or powering down",
            where=group.where,
            hint="`sinfo -R` says why; another pass may find one",
        )

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says; ConflictError (retryable) while Slurm is still powering one down.

        The same where Slurm keeps one for a reservation of its own; the others are started.
        """
        for group, chosen in self._named(pool, node_ids):
            going = [p.name for p in chosen if p.is_leaving]
            if going:
                raise ConflictError(f"{', '.join(going)}: Slurm is still powering down", where=group.where)
            asleep = [p for p in chosen if p.kept is not None and not p.kept_for]
            with as_pool_errors(group.where):
                for p in asleep:
                    marks = p.marks.woken(pool.name, time.time())
                    self._order_up(group, p, marks)
            held = [p for p in chosen if p.kept is not None and p.kept_for]
            if held:
                names = ", ".join(p.name for p in held)
                raise ConflictError(f"{names}: Slurm keeps it for its {held[0].kept_for}", where=group.where)

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says: Slurm powers the node down, and its SuspendProgram has the vendor hibernate it."""
        self._keep(pool, node_ids, Standby.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As `hibernate`, stopped."""
        self._keep(pool, node_ids, Standby.STOPPED)

    def _keep(self, pool: Pool, node_ids: Sequence[str], state: Standby) -> None:
        work = list(self._named(pool, node_ids))
        for group, chosen in work:
            if state not in self.capabilities(pool, group.group.name).standby_states:
                raise PoolError(f"group {group.group.name} keeps no {state} nodes", where=group.where)
            self._refuse_busy(group, chosen)
        for group, chosen in work:
            vendor = self._vendor(group.vendor)
            asleep = [p.machine.node_id for p in chosen if p.kept not in (None, state) and p.machine is not None]
            if asleep:
                (vendor.hibernate if state is Standby.HIBERNATED else vendor.stop)(group.theirs, asleep)
            self._power_down(group, [p for p in chosen if p.kept is None], state)

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        for group, chosen in self._named(pool, node_ids):
            up = [p.name for p in chosen if p.slurm and not (p.slurm.is_gone or p.slurm.is_drained)]
            with as_pool_errors(group.where):
                self._connect(group.conf).update_nodes(up, state="drain", reason=view.DRAINED)

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says. A job that slips in meanwhile runs to its end: the node drains, then powers down."""
        work = list(self._named(pool, node_ids, absent_is_fine=True))
        for group, chosen in work:
            self._refuse_busy(group, chosen)
        for group, chosen in work:
            gone = [p for p in chosen if p.slurm is None or (p.slurm.is_gone and not p.slurm.is_coming)]
            machines = [m.node_id for p in gone for m in (p.machine, *p.older) if m is not None]
            if machines:
                self._vendor(group.vendor).terminate(group.theirs, machines)
            self._power_down(group, [p for p in chosen if p not in gone], Standby.COLD)

    def _refuse_busy(self, group: SlurmGroup, chosen: Iterable[Place]) -> None:
        busy = {p.name: p.running for p in chosen if p.running is None or p.running}
        if busy:
            text = "; ".join(f"{n} runs {', '.join(r) if r else 'something'}" for n, r in busy.items())
            raise NodeBusyError(text, where=group.where, hint="drain it; it can be ended when its work has ended")

    def _power_down(self, group: SlurmGroup, chosen: Sequence[Place], to: Standby) -> None:
        """Drain and power down; never what runs a job, for Slurm itself waits for that."""
        going = [p for p in chosen if p.slurm is not None and not p.is_leaving]
        if not going:
            return
        slurm = self._connect(group.conf)
        with as_pool_errors(group.where):
            for p in going:
                marks = replace(p.marks, to=to, going_at=time.time())
                slurm.update_nodes([p.name], extra=marks.write(), state="power_down_asap", **_weight(group, p))
            # One that has not come yet waits for itself; now that it is drained no job can be given to it.
            names = {p.name for p in going}
            after = view.places(group, slurm.nodes(), slurm.jobs(), ())
            idle = [n for n, p in after.items() if n in names and p.slurm and _can_be_forced(p.slurm, p.jobs)]
            slurm.update_nodes(idle, state="power_down_force")

    # ---- before anything is done

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        return examine(pool, self._connect, self._vendor)

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Who else writes the counts of the vendor's group; Slurm itself is asked, not written around."""
        ours = slurm_group(pool, group)
        machines = self._vendor(ours.vendor)
        return machines.other_writers(ours.theirs, group) if isinstance(machines, Examined) else ()

    # ---- upkeep

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """Nodes whose vendor refused may be tried again once `retry_s` have passed; what is up is used first."""
        done = []
        for group in slurm_groups(pool):
            slurm = self._connect(group.conf)
            with as_pool_errors(group.where):
                nodes = slurm.nodes()
                done += [f"{n} may be tried again" for n in give_back(group, slurm, nodes)]
                if group.weigh and (names := weigh(group, slurm, nodes)):
                    done.append(f"{len(names)} weighed anew, so that what is up is used first: {', '.join(names)}")
        return tuple(done)

    def keep(self, pool: Pool, node_ids: Collection[str], until: datetime) -> tuple[str, ...]:
        """As the contract says: the idle timer of these nodes begins anew where half of it has run off."""
        kept: list[str] = []
        for group in slurm_groups(pool):
            names = [n for n in group.names if n in set(node_ids)]
            if names:
                with as_pool_errors(group.where):
                    kept += self._toucher.touch(group, self._connect(group.conf), names)
        return tuple(kept)

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """As the contract says: power-ups that the accounting database has recorded. Slurm lives in wall time."""
        ours = slurm_group(pool, group)
        with as_pool_errors(ours.where):
            return recall(ours, self._connect(ours.conf), since, from_epoch(time.time()))

    # ---- which

    def _named(
        self, pool: Pool, node_ids: Sequence[str], *, absent_is_fine: bool = False
    ) -> Iterable[tuple[SlurmGroup, list[Place]]]:
        """The places of these ids by group.

        Raises:
            NotFoundError: naming those that do not exist.
        """
        out: list[tuple[SlurmGroup, list[Place]]] = []
        missing = dict.fromkeys(node_ids)
        for group in slurm_groups(pool):
            if not missing.keys() & set(group.names):
                continue
            with as_pool_errors(group.where):
                found, _, _ = self._look(group)
            chosen = [found[i] for i in missing.copy() if i in found and (self._exists(found[i]) or absent_is_fine)]
            for p in chosen:
                missing.pop(p.name)
            out.append((group, chosen))
        if missing and not absent_is_fine:
            raise NotFoundError(f"no such node: {', '.join(sorted(missing))}", where=pool.name)
        return out


def _is_ours(group: SlurmGroup, place: Place) -> bool:
    """False if another pool has it."""
    return place.marks.pool in ("", group.pool.name)


def _weight(group: SlurmGroup, place: Place) -> dict[str, str]:
    """Of one that is not up any more, or not yet."""
    return {"weight": behind(place.slurm.weight)} if group.weigh and place.slurm is not None else {}


def _can_be_forced(node: SlurmNode, jobs: Sequence[SlurmJob]) -> bool:
    """Powering up, drained, and given to no job."""
    return node.is_coming and node.is_drained and not node.is_used and not jobs
