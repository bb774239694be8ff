"""Groups that are Auto Scaling groups: nodes in service, and those its warm pool keeps stopped, hibernated or running.

Counts are only ever moved together with named nodes: a node that leaves service is named and idle, all others are
protected from scale-in. What the group's warm pool holds is of its own choice.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import Capabilities, LaunchRequest
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    PoolError,
    QuotaExceededError,
)
from preprov.model.nodes import Phase
from preprov.model.notes import CAME_FROM, PROTECTED, STARTED
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.pools.aws import hooks, scaling, settings, writes
from preprov.pools.aws.clients import Json, batches, tags_of
from preprov.pools.aws.errors import calling, typed
from preprov.pools.aws.fleet import client_token
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.surplus import end_surplus
from preprov.pools.aws.view import WARM_STATES, Member, Seen, node
from preprov.pools.aws.warm import WarmSize, at_rest, before_move
from preprov.pools.aws.writes import Tools
from preprov.pools.machines.orders import noting

_GONE: Final = ("shutting-down", "terminated")
_KEPT: Final = {Standby.HIBERNATED: Phase.HIBERNATED, Standby.STOPPED: Phase.STOPPED}
_PROTECTED_AT_ONCE: Final = 50
_DETACHED_AT_ONCE: Final = 20


class ScalingGroup:
    """The verbs of such a group."""

    def __init__(self, tools: Tools, group: AwsGroup) -> None:
        self._tools = tools
        self._group = group

    @property
    def _api(self) -> Any:
        return self._tools.clients.get("autoscaling", self._group.place)

    def capabilities(self) -> Capabilities:
        """A warm pool keeps one state, chooses among its nodes, and fills itself."""
        spot = any(o.capacity_type is CapacityType.SPOT for o in self._group.group.offerings)
        return Capabilities(
            standby_states=self._group.group.standby_states & (frozenset(_KEPT) | {Standby.RUNNING, Standby.COLD}),
            mixes_states=False,
            chooses_offering=False,
            chooses_zone=True,
            leases=True,
            interrupts=spot or bool(self._group.queue_url),
            names_kept=False,
            steps_down=False,
            sets_targets=True,
        )

    # ---- what exists

    def described(self) -> Json:
        """The group as Auto Scaling describes it, now. Raises as `scaling.described`."""
        return scaling.described(self._tools, self._group)

    def members(self) -> dict[str, Member]:
        """Its instances, those of the warm pool too."""
        return scaling.members(self._tools, self._group, self.described())

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says: cold nodes in service, past the warm pool, which `start` draws on.

        LaunchInstances takes a ClientToken, answers with the ids, and says at once where there are no machines.
        """
        tools, place = self._tools, self._group.place
        made = tools.listing.of_token(place, request.pool.name, request.token)
        if made:
            return tuple(str(i["InstanceId"]) for i in made if i["State"]["Name"] not in _GONE)
        group = self.described()
        count = self._room(group, request.count)
        self.lease(request.expires_at)
        self._prepare(group, step=count, warm_after=self._warm(group))
        ids = self._launch_in_zones(request, group, count)
        notes = writes.launch_notes(request, self._group) | writes.later_notes(request, tools.clock)
        with noting(self._group.where, ids):
            writes.write_notes(tools, self._group, ids, notes)
        return ids

    def _room(self, group: Json, wanted: int) -> int:
        """How many more there may be, by our own limit and the group's."""
        exist = sum(1 for m in self.members().values() if not m.leaves)
        room = min(self._group.group.max_nodes - exist, int(group["MaxSize"]) - int(group["DesiredCapacity"]))
        if room < 1:
            raise QuotaExceededError(
                f"group {self._group.group.name} is at its limit: {exist} exist, max_nodes "
                f"{self._group.group.max_nodes}, MaxSize {group['MaxSize']}",
                where=self._group.where,
                hint="raise max_nodes, or MaxSize in Terraform",
            )
        return min(wanted, room)

    def _launch_in_zones(self, request: LaunchRequest, group: Json, count: int) -> tuple[str, ...]:
        """Ask zone by zone until there are enough."""
        o, shortages = request.offering, self._tools.shortages
        zones = [o.zone] if o.zone else [str(z) for z in group["AvailabilityZones"]]
        ids: list[str] = []
        refusal: PoolError = InsufficientCapacityError(
            f"no {o.key} was to be had a moment ago", where=self._group.where, hint="another offering"
        )
        for zone in zones:
            if len(ids) == count:
                break
            if shortages.until(o.instance_type, zone, o.capacity_type) is not None:
                continue
            with noting(self._group.where, ids):
                got, error = self._launch_in(zone, request, count - len(ids))
            ids.extend(got)
            if error is not None:
                refusal = error
                if isinstance(error, InsufficientCapacityError):
                    shortages.note(o.instance_type, zone, o.capacity_type, self._group.shortage_ttl_s)
        if not ids:
            raise refusal
        return tuple(ids)

    def _launch_in(self, zone: str, request: LaunchRequest, count: int) -> tuple[list[str], PoolError | None]:
        where = self._group.where
        with calling(where):
            answer = self._api.launch_instances(
                AutoScalingGroupName=self._group.asg,
                RequestedCapacity=count,
                ClientToken=client_token(request, zone),
                AvailabilityZones=[zone],
                RetryStrategy="none",
            )
        self._tools.listing.forget(self._group.place)
        ids = [str(i) for some in answer.get("Instances", ()) for i in some["InstanceIds"]]
        errors = answer.get("Errors", ())
        error = (
            typed(str(errors[0].get("ErrorCode")), str(errors[0].get("ErrorMessage", "")), where) if errors else None
        )
        return ids, error

    # ---- there and back

    def start(self, seen: Mapping[str, Seen], preload: Preload) -> None:
        """Have as many nodes leave the warm pool as are named and still in it.

        Counts, not names, are what the group takes, so the call is made idempotent by what is already on its way.

        Raises:
            QuotaExceededError: the group's MaxSize is reached.
            PoolError: it failed.
        """
        asleep = [i for i, s in seen.items() if s.member is not None and s.member.is_warm]
        if not asleep:
            return
        group = self.described()
        desired = int(group["DesiredCapacity"])
        step = len(asleep) - max(desired - scaling.counted(group), 0)
        if step < 1:
            return
        if desired + step > int(group["MaxSize"]):
            raise QuotaExceededError(
                f"MaxSize {group['MaxSize']} of {self._group.asg} is reached", where=self._group.where, hint="raise it"
            )
        warm = [i for i, m in self.members().items() if m.is_warm]
        writes.take_tasks_again(self._tools, self._group, warm)  # whichever of them the group chooses
        # The vendor made some of them, and never told them what a launch tells.
        since = self._tools.clock.now().isoformat(timespec="seconds")
        noted = {**self._tools.greeting(), CAME_FROM: "warm-pool", STARTED: since}
        writes.write_notes(self._tools, self._group, warm, noted)
        writes.write_preload(self._tools, self._group, {i: seen[i] for i in asleep}, preload)
        self.lease()
        self._move(group, step=step, warm_after=max(self._warm(group) - step, 0))

    def check_keep(self, seen: Mapping[str, Seen], state: Standby) -> None:
        """All these nodes can be kept in that state, and those in service run nothing and begin nothing any more.

        Raises:
            ConflictError: one is failed or lost.
            PoolError: the warm pool keeps another state, or takes no node back.
            NodeBusyError: one runs a task.
        """
        where, now = self._group.where, self._tools.clock.now()
        nodes = {i: node(s, self._tools.heard, now) for i, s in seen.items()}
        if any(n is not None and n.phase in (Phase.FAILED, Phase.LOST) for n in nodes.values()):
            raise ConflictError("a node that is failed or lost is not kept", where=where, hint="terminate it")
        warm = self.described().get("WarmPoolConfiguration") or {}
        if WARM_STATES.get(str(warm.get("PoolState", "")) if warm else "") is not _KEPT[state]:
            kept = warm.get("PoolState", "none") if warm else "none"
            raise PoolError(f"its warm pool keeps {kept} nodes, not {state}", where=where, hint="another group")
        if not (warm.get("InstanceReusePolicy") or {}).get("ReuseOnScaleIn"):
            raise PoolError("its warm pool takes no node back", where=where, hint="set ReuseOnScaleIn")
        self._tools.fences.close(self._group, _in_service(seen), lost_too=False)

    def keep(self, seen: Mapping[str, Seen], state: Standby) -> None:
        """Give idle nodes back to the warm pool: they alone are unprotected while desired goes down by their number."""
        leaving = list(_in_service(seen))
        if not leaving:
            return
        group = self.described()
        staying = [
            str(r["InstanceId"])
            for r in group["Instances"]
            if r["InstanceId"] not in leaving and not r.get("ProtectedFromScaleIn")
        ]
        self.protect(staying, on=True)
        self.protect(leaving, on=False)
        self._move(group, step=-len(leaving), warm_after=self._warm(group) + len(leaving))

    def check_end(self, seen: Mapping[str, Seen]) -> None:
        """All these nodes run nothing and begin nothing any more. Raises as `Fences.close`."""
        self._tools.fences.close(self._group, _in_service(seen), lost_too=True)

    def terminate(self, seen: Mapping[str, Seen]) -> None:
        """End nodes for which `check_end` has been called; desired goes down with each, so that none is replaced."""
        group = self.described()
        serving = list(_in_service(seen))
        warm = len(seen) - len(serving)
        if warm:
            self._write_size(group, at_rest(max(self._warm(group) - warm, 0)))
            for node_id in [i for i, s in seen.items() if s.member is not None and s.member.is_warm and s.member.waits]:
                hooks.abandon(self._tools, self._group, node_id)
            group = self.described()
        if not serving:
            return
        surplus = min(max(scaling.counted(group) - int(group["DesiredCapacity"]), 0), len(serving))
        self._prepare(group, step=surplus - len(serving), warm_after=self._warm(group))
        reuse = ((group.get("WarmPoolConfiguration") or {}).get("InstanceReusePolicy") or {}).get("ReuseOnScaleIn")
        for ids, lower in ((serving[:surplus], False), (serving[surplus:], True)):  # nobody waits for the surplus
            if reuse:
                self._detach_and_end(ids, lower=lower)
            else:
                self._end(ids, lower=lower)
        self._tools.listing.forget(self._group.place)

    def _detach_and_end(self, ids: Sequence[str], *, lower: bool) -> None:
        """The group would take them back into its warm pool; detached they are ours to end."""
        for some in batches(ids, _DETACHED_AT_ONCE):
            with calling(self._group.where):
                self._api.detach_instances(
                    AutoScalingGroupName=self._group.asg, InstanceIds=list(some), ShouldDecrementDesiredCapacity=lower
                )
        if ids:
            writes.end_instances(self._tools, self._group, ids)

    def _end(self, ids: Sequence[str], *, lower: bool) -> None:
        for node_id in ids:
            with calling(self._group.where):
                self._api.terminate_instance_in_auto_scaling_group(
                    InstanceId=node_id, ShouldDecrementDesiredCapacity=lower
                )

    # ---- what only such a group has

    def targets(self) -> Mapping[Standby, int]:
        """Size of the warm pool, by the state that it keeps; none without one."""
        group = self.described()
        warm = group.get("WarmPoolConfiguration")
        if not warm:
            return {}
        phase = WARM_STATES[str(warm.get("PoolState", "Stopped"))]
        return {state: self._warm(group) for state, kept in _KEPT.items() if kept is phase}

    def set_targets(self, targets: Mapping[Standby, int]) -> None:
        """Size of the warm pool; the preload of the pool is noted for the nodes it will launch.

        Raises:
            PoolError: it keeps no such state, or the group has no warm pool.
        """
        where, group = self._group.where, self.described()
        warm = group.get("WarmPoolConfiguration")
        if not warm:
            raise PoolError(f"{self._group.asg} has no warm pool", where=where, hint="make one (Terraform owns shape)")
        kept = WARM_STATES[str(warm.get("PoolState", "Stopped"))]
        for state, count in targets.items():
            if _KEPT.get(state) is not kept and count:
                raise PoolError(f"its warm pool keeps {kept} nodes, not {state}", where=where, hint="another group")
        wanted = sum(targets.values())
        if wanted > self._group.group.max_nodes:
            raise QuotaExceededError(f"max_nodes is {self._group.group.max_nodes}", where=where)
        settings.claim(self._tools, self._group, group)
        settings.note_preload(self._tools, self._group, group)
        self._write_size(group, at_rest(wanted))

    def tend(self, held: Collection[str]) -> tuple[str, ...]:
        """Complete the lifecycle actions of verified nodes, protect the busy ones and no other, renew the lease."""
        members = self.members()
        present = {i: m for i, m in members.items() if m.waits or m.lifecycle == "InService"}
        listed = self._tools.listing.of_ids(self._group.place, present) if present else {}
        seen = {i: Seen.of(self._group, x, members[i]) for i, x in listed.items()}
        waiting = [s for i, s in seen.items() if members[i].waits]
        said = hooks.complete(self._tools, self._group, waiting) if waiting else []
        said += self._protect_busy([s for i, s in seen.items() if not members[i].waits], held)
        said += settings.renew(self._tools, self._group)
        return tuple(said)

    def _protect_busy(self, serving: Sequence[Seen], held: Collection[str]) -> list[str]:
        """Idle nodes are not protected: when a lease runs out, they are what the group ends.

        What their owner has protected stays so.
        """
        now = self._tools.clock.now()
        on: list[str] = []
        off: list[str] = []
        for seen in serving:
            found = node(seen, self._tools.heard, now)
            works = found is None or found.is_busy or seen.node_id in held
            protected = seen.member is not None and seen.member.protected
            if works and not protected:
                on.append(seen.node_id)
            elif protected and not works and PROTECTED in seen.tags:
                off.append(seen.node_id)
        self.protect(on, on=True)
        self.protect(off, on=False)
        return [*(f"{i}: protected" for i in on), *(f"{i}: no longer protected" for i in off)]

    def other_writers(self) -> tuple[str, ...]:
        """Who else moves its counts."""
        return settings.other_writers(self._tools, self._group, self.described())

    def baseline(self) -> Mapping[str, object]:
        """Settings that we may touch, and the nodes that we protect."""
        listed = self._tools.listing.of_ids(self._group.place, self.members())
        protected = sorted(i for i, x in listed.items() if PROTECTED in tags_of(x))
        found = settings.baseline(self._tools, self._group, self.described())
        return {**found, "ProtectedByPreprov": protected}

    def restore(self, baseline: Mapping[str, object], held: Collection[str]) -> tuple[str, ...]:
        """Put them back; idle nodes beyond the old count are ended by name, busy ones stay, protected, and are told.

        Asked again when those are idle, they lose their protection, and the group ends them.
        """
        wanted = int(str(baseline.get("DesiredCapacity", 0)))
        said, left = end_surplus(self, self._tools, self._group, wanted, held)
        said += settings.restore(self._tools, self._group, self.described(), baseline, whole=not left)
        return tuple(said)

    def set_floor(self, nodes: int) -> bool:
        """Least size; where the group is below it, it rises by itself, out of its warm pool first."""
        group = self.described()
        was = settings.noted_counts(group)
        least = min(max(nodes, int(was["MinSize"])), int(group["MaxSize"]))
        if least == int(group["MinSize"]):
            return False
        self.lease()
        settings.write_floor(self._tools, self._group, least)
        self._tools.listing.forget(self._group.place)
        return True

    def lease(self, until: datetime | None = None) -> None:
        """Have the group put its counts back by itself; None = after the pool's time for a lease."""
        ends = until or self._tools.clock.now() + timedelta(seconds=self._group.pool.lease_s)
        settings.lease(self._tools, self._group, self.described(), ends)

    # ---- counts

    def protect(self, ids: Sequence[str], *, on: bool) -> None:
        """Protect nodes in service from scale-in, or not; which of them are protected by us is noted on them.

        Raises:
            PoolError: it failed.
        """
        if on:
            writes.write_notes(self._tools, self._group, ids, {PROTECTED: "yes"})
        elif ids:
            writes.take_notes(self._tools, self._group, ids, PROTECTED)
        for some in batches(ids, _PROTECTED_AT_ONCE):
            with calling(self._group.where):
                self._api.set_instance_protection(
                    AutoScalingGroupName=self._group.asg, InstanceIds=list(some), ProtectedFromScaleIn=on
                )

    def _warm(self, group: Json) -> int:
        """Nodes its warm pool is set to hold."""
        size = scaling.size(group)
        return size.at(int(group["DesiredCapacity"])) if size else 0

    def _prepare(self, group: Json, *, step: int, warm_after: int) -> None:
        if group.get("WarmPoolConfiguration"):
            desired = int(group["DesiredCapacity"])
            self._write_size(group, before_move(desired, self._warm(group), step, warm_after))

    def _move(self, group: Json, *, step: int, warm_after: int) -> None:
        self._prepare(group, step=step, warm_after=warm_after)
        with calling(self._group.where):
            self._api.set_desired_capacity(
                AutoScalingGroupName=self._group.asg,
                DesiredCapacity=int(group["DesiredCapacity"]) + step,
                HonorCooldown=False,
            )
        self._tools.listing.forget(self._group.place)

    def _write_size(self, group: Json, size: WarmSize) -> None:
        """Write the warm pool's size, and what else it has as it is: the call replaces everything."""
        if size == scaling.size(group):
            return
        warm = group["WarmPoolConfiguration"]
        reuse = warm.get("InstanceReusePolicy")
        with calling(self._group.where):
            self._api.put_warm_pool(
                AutoScalingGroupName=self._group.asg,
                MaxGroupPreparedCapacity=size.prepared,
                MinSize=size.min_size,
                PoolState=warm.get("PoolState", "Stopped"),
                **({"InstanceReusePolicy": reuse} if reuse else {}),
            )


def _in_service(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """Those that are not in the warm pool."""
    return {i: s for i, s in seen.items() if s.member is None or not s.member.is_warm}
