"""Groups without an Auto Scaling group: instant fleets of a launch template, and the instances they made."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from preprov.contracts import Capabilities, LaunchRequest
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
)
from preprov.model.nodes import Phase
from preprov.model.offerings import CapacityType, Preload, Standby
from preprov.pools.aws import writes
from preprov.pools.aws.clients import Json, as_tags, batches
from preprov.pools.aws.errors import calling, typed
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Member, Seen, node
from preprov.pools.aws.writes import Tools

_ENDED: Final = ("shutting-down", "terminated")
_KEPT: Final = {Standby.HIBERNATED: Phase.HIBERNATED, Standby.STOPPED: Phase.STOPPED}
_STATES: Final = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED, Standby.COLD})
_AT_ONCE: Final = 200


def client_token(request: LaunchRequest, *more: str) -> str:
    """Idempotency token of a launch, within the API's 64 characters."""
    parts = "\x1f".join((request.pool.name, request.group, request.token, *more))
    return hashlib.sha256(parts.encode()).hexdigest()


class FleetGroup:
    """The verbs of such a group."""

    def __init__(self, tools: Tools, group: AwsGroup) -> None:
        self._tools = tools
        self._group = group

    def capabilities(self) -> Capabilities:
        """All is by name; nothing ends a raise by itself."""
        spot = any(o.capacity_type is CapacityType.SPOT for o in self._group.group.offerings)
        return Capabilities(
            standby_states=self._group.group.standby_states & _STATES,
            chooses_zone=True,
            interrupts=spot or bool(self._group.queue_url),
            steps_down=False,
        )

    def members(self) -> Mapping[str, Member]:
        """It is in no Auto Scaling group."""
        return {}

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says.

        Found by its token first, for EC2 remembers a ClientToken for a while only; sent with a ClientToken all the
        same, for the listing lags behind.
        """
        tools, group = self._tools, self._group
        made = tools.listing.of_token(group.place, request.pool.name, request.token)
        if made:
            return tuple(str(i["InstanceId"]) for i in made if i["State"]["Name"] not in _ENDED)
        room = group.group.max_nodes - writes.alive_in(tools, group)
        if room < 1:
            raise QuotaExceededError(
                f"group {group.group.name} is at its {group.group.max_nodes} nodes", where=group.where
            )
        overrides = list(self._overrides(request))
        if not overrides:
            raise InsufficientCapacityError(
                f"no {request.offering.key} was to be had a moment ago", where=group.where, hint="another offering"
            )
        answer = self._create(request, min(request.count, room), overrides)
        ids = tuple(str(i) for one in answer.get("Instances", ()) for i in one["InstanceIds"])
        self._learn(request, answer.get("Errors", ()))
        if not ids:
            raise self._refusal(answer.get("Errors", ()), request)
        writes.write_notes(tools, group, ids, writes.later_notes(request, tools.clock))
        return ids

    def _create(self, request: LaunchRequest, count: int, overrides: Sequence[Json]) -> Json:
        group, kind = self._group, request.offering.capacity_type
        spot = kind is CapacityType.SPOT
        more: Json = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}} if spot else {}
        if kind is CapacityType.RESERVED:
            use = {"UsageStrategy": "use-capacity-reservations-first"}
            more = {"OnDemandOptions": {"AllocationStrategy": "lowest-price", "CapacityReservationOptions": use}}
        tags = as_tags(writes.launch_notes(request, group))
        with calling(group.where):
            answer: Json = self._tools.clients.get("ec2", group.place).create_fleet(
                Type="instant",
                ClientToken=client_token(request),
                LaunchTemplateConfigs=[
                    {"LaunchTemplateSpecification": group.template_spec, "Overrides": list(overrides)}
                ],
                TargetCapacitySpecification={
                    "TotalTargetCapacity": count,
                    "DefaultTargetCapacityType": "spot" if spot else "on-demand",
                },
                TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
                **more,
            )
        self._tools.listing.forget(group.place)
        return answer

    def _overrides(self, request: LaunchRequest) -> Iterator[Json]:
        """Where the machine may be, less where there was none a moment ago."""
        o, subnets = request.offering, self._group.subnets
        places = {z: s for z, s in subnets.items() if o.zone in ("", z)}
        if o.zone and not places:
            places = {o.zone: ""}
        for zone, subnet in (places or {"": ""}).items():
            if self._tools.shortages.until(o.instance_type, zone, o.capacity_type) is None:
                place = {"SubnetId": subnet} if subnet else {"AvailabilityZone": zone} if zone else {}
                yield {"InstanceType": o.instance_type, **place}

    def _learn(self, request: LaunchRequest, errors: Sequence[Json]) -> None:
        zones = {s: z for z, s in self._group.subnets.items()}
        for e in errors:
            if isinstance(self._typed(e), InsufficientCapacityError):
                there: Mapping[str, Any] = e.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
                zone = there.get("AvailabilityZone") or zones.get(there.get("SubnetId", ""), request.offering.zone)
                o = request.offering
                self._tools.shortages.note(o.instance_type, zone, o.capacity_type, self._group.shortage_ttl_s)

    def _typed(self, error: Json) -> PoolError:
        return typed(str(error.get("ErrorCode", "")), str(error.get("ErrorMessage", "")), self._group.where)

    def _refusal(self, errors: Sequence[Json], request: LaunchRequest) -> PoolError:
        if not errors:
            return InsufficientCapacityError(f"EC2 gave no {request.offering.key}", where=self._group.where)
        return self._typed(errors[0])

    # ---- there and back

    def start(self, seen: Mapping[str, Seen], preload: Preload) -> None:
        """Start what sleeps."""
        writes.start_instances(self._tools, self._group, seen, preload)

    def check_keep(self, seen: Mapping[str, Seen], state: Standby) -> None:
        """All these nodes can be kept in that state, and run nothing and begin nothing any more.

        Raises:
            ConflictError: one is failed or lost.
            PoolError: one is hibernated and would have to be woken to be stopped.
            NodeBusyError: one runs a task.
        """
        tools, group = self._tools, self._group
        nodes = {i: node(s, tools.heard, tools.clock.now()) for i, s in seen.items()}
        bad = [i for i, n in nodes.items() if n is not None and n.phase in (Phase.FAILED, Phase.LOST)]
        if bad:
            raise ConflictError(f"{', '.join(bad)} is failed or lost", where=group.where, hint="terminate it")
        asleep = [n for i, n in nodes.items() if n is not None and seen[i].state == "stopped"]
        if any(n.phase is not _KEPT[state] for n in asleep):
            raise PoolError(
                "EC2 cannot change the standby state of a sleeping node", where=group.where, hint="start it"
            )
        tools.fences.close(group, _awake(seen), lost_too=False)

    def keep(self, seen: Mapping[str, Seen], state: Standby) -> None:
        """Stop or hibernate nodes for which `check_keep` has been called."""
        for some in batches(_awake(seen), _AT_ONCE):
            with calling(self._group.where):
                self._tools.clients.get("ec2", self._group.place).stop_instances(
                    InstanceIds=list(some), Hibernate=state is Standby.HIBERNATED
                )
        self._tools.listing.forget(self._group.place)

    def check_end(self, seen: Mapping[str, Seen]) -> None:
        """All these nodes run nothing and begin nothing any more. Raises as `Fences.close`."""
        self._tools.fences.close(self._group, seen, lost_too=True)

    def terminate(self, seen: Mapping[str, Seen]) -> None:
        """End nodes for which `check_end` has been called."""
        writes.end_instances(self._tools, self._group, list(seen))


def missing(group: AwsGroup, absent: Sequence[str]) -> NotFoundError:
    """The error that names nodes that are not there."""
    return NotFoundError(f"no node {', '.join(absent)}", where=group.where, hint="observe again")


def _awake(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    return {i: s for i, s in seen.items() if s.state in ("pending", "running")}
