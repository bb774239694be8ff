"""AWS as a pool provider: each group is an instant fleet's instances, or an Auto Scaling group with its warm pool."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from preprov.contracts import (
    Capabilities,
    Clock,
    Finding,
    Headroom,
    Image,
    LaunchRequest,
    NewVolume,
    Notice,
    Quote,
    Recollection,
    Volume,
)
from preprov.model.adoption import BOOTS_FROM
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, PoolObservation
from preprov.model.notes import GROUP, OWNER, POOL
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Pool
from preprov.pools.aws import doctor, images, limits, notices, prices, recall, settings, volumes, writes
from preprov.pools.aws.asg import ScalingGroup
from preprov.pools.aws.clients import Clients, Json, tags_of
from preprov.pools.aws.fence import Fences
from preprov.pools.aws.fleet import FleetGroup, missing
from preprov.pools.aws.listing import Listing
from preprov.pools.aws.options import AwsGroup, Place, aws_group
from preprov.pools.aws.view import Heard, Member, Seen, node
from preprov.pools.aws.writes import Tools
from preprov.pools.machines.giveback import end_surplus
from preprov.pools.machines.shortage import Shortages

Kind: TypeAlias = FleetGroup | ScalingGroup


@dataclass
class _Found:
    """Nodes of one group, asked for by id."""

    kind: Kind
    group: AwsGroup
    seen: dict[str, Seen]


class AwsProvider:
    """Nodes on EC2, found again by their tags; options of a group as `preprov.pools.aws.options` reads them.

    An agent on a node and this object write to each other by tags (`preprov.model.notes`), so the launch template must
    allow tags in instance metadata. The SDK retries by itself; nothing here does.

    Args:
        clock: instants given to and taken from this object are on it. It must show the same time as AWS's.
        clients: None = its own; they hold no state of the world.
        greeting: further notes of machines that are launched, such as who may hand them tasks; always the same.
        owner: name of the store of this preprov, by which it knows its machines from another one's.
    """

    name = "aws"

    def __init__(
        self,
        clock: Clock,
        clients: Clients | None = None,
        greeting: Callable[[], Mapping[str, str]] = dict,
        owner: Callable[[], str] = str,
    ) -> None:
        clients, heard = clients or Clients(), Heard()
        listing = Listing(clients, clock)
        self._clock = clock
        fences = Fences(clients, listing, clock, heard)
        self._tools = Tools(clients, listing, fences, Shortages(clock), heard, clock, owner, greeting)

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """As the contract says; whether it is an Auto Scaling group decides most of it."""
        return self._kind(aws_group(pool, group)).capabilities()

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; writes nothing. One listing serves all pools that are looked at within two seconds."""
        nodes: list[Node] = []
        problems: list[str] = []
        complete = True
        for group in self._groups(pool):
            try:
                nodes.extend(self._nodes(group))
            except PoolError as e:
                complete = False
                problems.append(f"{group.group.name}: {e}")
        return PoolObservation(pool.name, self._clock.now(), tuple(nodes), complete, tuple(problems))

    def _nodes(self, group: AwsGroup) -> Iterator[Node]:
        members = self._kind(group).members()
        listed = {str(i["InstanceId"]): i for i in self._tools.listing.alive(group.place, reader=group.where)}
        unlisted = [i for i, m in members.items() if i not in listed and not m.leaves]
        listed |= self._tools.listing.of_ids(group.place, unlisted)
        now = self._clock.now()
        for node_id, instance in listed.items():
            if _belongs(group, instance, members):
                found = node(Seen.of(group, instance, members.get(node_id)), self._tools.heard, now)
                if found is not None:
                    yield found

    # ---- more and less

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says."""
        mine = {OWNER: self._tools.owner()} if self._tools.owner() else {}
        greeted = replace(request, tags={**request.tags, **self._tools.greeting(), **mine})
        return self._kind(aws_group(request.pool, request.group)).launch(greeted)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says; a warm pool hands over as many as are named, of its own choice."""
        found, absent = self._find(pool, node_ids)
        for one in found:
            one.kind.start(one.seen, preload)
        if absent:
            raise missing(_any(self._groups(pool)), absent)

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        self._keep(pool, node_ids, Standby.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        self._keep(pool, node_ids, Standby.STOPPED)

    def _keep(self, pool: Pool, node_ids: Sequence[str], state: Standby) -> None:
        found, absent = self._find(pool, node_ids)
        if absent:
            raise missing(_any(self._groups(pool)), absent)
        for one in found:
            if state not in one.group.group.standby_states:
                raise PoolError(f"group {one.group.group.name} keeps no {state} nodes", where=pool.name)
        self._check(found, lambda one: one.kind.check_keep(one.seen, state))
        for one in found:
            one.kind.keep(one.seen, state)

    def _check(self, found: Sequence[_Found], check: Callable[[_Found], None]) -> None:
        """Fence the nodes of each group; if one group refuses, those of all take tasks again."""
        for i, one in enumerate(found):
            try:
                check(one)
            except PoolError:
                for other in found[:i]:
                    self._tools.fences.open(other.group, list(other.seen))
                raise

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        found, absent = self._find(pool, node_ids)
        for one in found:
            writes.drain(self._tools, one.group, list(one.seen))
        if absent:
            raise missing(_any(self._groups(pool)), absent)

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says; the agents of serving nodes confirm before any of them is ended."""
        found, absent = self._find(pool, node_ids)
        self._check(found, lambda one: one.kind.check_end(one.seen))
        for one in found:
            one.kind.terminate(one.seen)
        for place in {g.place for g in self._groups(pool)} if absent else ():
            group = next(g for g in self._groups(pool) if g.place == place)
            writes.end_unlisted(self._tools, group, absent)

    def leave_notes(self, pool: Pool, node_ids: Sequence[str], notes: Mapping[str, str]) -> None:
        """As the contract says."""
        found, _ = self._find(pool, node_ids)
        for one in found:
            writes.write_notes(self._tools, one.group, list(one.seen), dict(notes))

    def _find(self, pool: Pool, node_ids: Sequence[str]) -> tuple[list[_Found], list[str]]:
        """The nodes by group, asked now, and the ids that name nothing of this pool."""
        left = dict.fromkeys(node_ids)
        groups = list(self._groups(pool))
        instances: dict[Place, dict[str, Json]] = {}
        out = []
        for group in groups:
            if group.place not in instances:
                instances[group.place] = self._tools.listing.of_ids(group.place, node_ids)
            there = instances[group.place]
            kind = self._kind(group)
            members = kind.members() if there else {}
            mine = {i: Seen.of(group, x, members.get(i)) for i, x in there.items() if _belongs(group, x, members)}
            if mine:
                out.append(_Found(kind, group, mine))
                left = {i: None for i in left if i not in mine}
        foreign = [i for i in left if any(i in there for there in instances.values())]
        if foreign:
            raise PoolError(
                f"{', '.join(foreign)} is not of pool {pool.name}", where=pool.name, hint="it is left alone"
            )
        return out, list(left)

    # ---- what only this vendor has

    def targets(self, pool: Pool, group: str) -> Mapping[Standby, int]:
        """As the contract says: the size of the group's warm pool."""
        return self._scaling(pool, group).targets()

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """As the contract says: the size of the group's warm pool."""
        self._scaling(pool, group).set_targets(targets)

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """As the contract says: lifecycle hooks of verified nodes, scale-in protection of busy ones, the lease."""
        said: list[str] = []
        for group in self._groups(pool):
            if isinstance(kind := self._kind(group), ScalingGroup):
                said.extend(kind.tend(held))
        return tuple(said)

    def notices(self, pool: Pool) -> tuple[Notice, ...]:
        """As the contract says, from the SQS queues that its groups name."""

        def ours() -> frozenset[str]:
            return frozenset(n.node_id for n in self.observe(pool).nodes)

        return tuple(n for g in _by_queue(self._groups(pool)) for n in notices.read(self._tools, g, ours))

    def settle_notices(self, pool: Pool, done: Sequence[Notice]) -> None:
        """As the contract says."""
        for group in _by_queue(self._groups(pool)):
            notices.settle(self._tools, group, [n for n in done if n.receipt.startswith(f"{group.queue_url} ")])

    def quotes(self, pool: Pool, group: str, since: datetime) -> tuple[Quote, ...]:
        """As the contract says: spot prices over time, list prices where the Pricing service can be asked."""
        return prices.quotes(self._tools, aws_group(pool, group), since)

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        return tuple(f for g in self._groups(pool) for f in doctor.examine(self._tools, g))

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """As the contract says; the instances of fleets have no count that others could write, but may be another's."""
        here = aws_group(pool, group)
        kind = self._kind(here)
        members = kind.members()
        tags = [tags_of(i) for i in self._tools.listing.alive(here.place) if _belongs(here, i, members)]
        found = kind.other_writers() if isinstance(kind, ScalingGroup) else ()
        owners = settings.strangers(self._tools, (t.get(OWNER, "") for t in tags))
        return tuple(dict.fromkeys((*found, *owners)))

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says; a group without an Auto Scaling group has a template, and nodes that we launched."""
        here = aws_group(pool, group)
        kind = self._kind(here)
        boots_from = images.boots_from(self._tools, here)
        booted = {BOOTS_FROM: boots_from} if boots_from else {}
        if isinstance(kind, ScalingGroup):
            return {**kind.baseline(), **booted}
        return {"launched": sum(1 for n in self._nodes(here) if n.token), **booted}

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says; of a group of fleets, its idle nodes that a launch of ours made are ended."""
        here, said = aws_group(pool, group), list[str]()
        kind = self._kind(here)
        try:
            said.extend(images.put_back(self._tools, here, baseline.get(BOOTS_FROM)))
        finally:  # counts are paid for: they go back even if the image does not
            if isinstance(kind, ScalingGroup):
                said.extend(kind.restore(baseline, held))
            else:
                said.extend(end_surplus(self, pool, group, len(self.launched(pool, group)), held))
        return tuple(said)

    def launched(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Ids of a group's nodes that a launch of ours made and that run nothing, the youngest first."""
        nodes = [n for n in self._nodes(aws_group(pool, group)) if n.token and not n.is_busy]
        return tuple(n.node_id for n in sorted(nodes, key=lambda n: n.created_at, reverse=True))

    def set_floor(self, pool: Pool, group: str, nodes: int) -> bool:
        """As the contract says: the least size of the Auto Scaling group, leased as every raise."""
        return self._scaling(pool, group).set_floor(nodes)

    def lease(self, pool: Pool, group: str, until: datetime) -> None:
        """As the contract says: one scheduled action of the Auto Scaling group. It leaves the warm pool as it is."""
        self._scaling(pool, group).lease(until)

    # ---- images

    def open_bench(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says."""
        mine = {OWNER: self._tools.owner()} if self._tools.owner() else {}
        ours = replace(request, tags={**request.tags, **mine})
        return images.open_bench(self._tools, aws_group(request.pool, request.group), ours)

    def benches(self, pool: Pool, group: str) -> tuple[Node, ...]:
        """As the contract says."""
        return tuple(images.benches(self._tools, aws_group(pool, group)))

    def close_benches(self, pool: Pool, group: str, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        images.close_benches(self._tools, aws_group(pool, group), node_ids)

    def images(self, pool: Pool, group: str) -> tuple[Image, ...]:
        """As the contract says."""
        return images.images(self._tools, aws_group(pool, group))

    def make_image(self, pool: Pool, group: str, node_id: str, digest: str) -> None:
        """As the contract says."""
        images.make_image(self._tools, aws_group(pool, group), node_id, digest)

    def roll_out(self, pool: Pool, group: str, image_id: str) -> tuple[str, ...]:
        """As the contract says: a new version of the launch template."""
        return images.roll_out(self._tools, aws_group(pool, group), image_id)

    def delete_image(self, pool: Pool, group: str, image_id: str) -> None:
        """As the contract says."""
        images.delete_image(self._tools, aws_group(pool, group), image_id)

    # ---- volumes

    def volumes(self, pool: Pool) -> tuple[Volume, ...]:
        """As the contract says: of EBS, in every region of the pool."""
        return volumes.volumes(self._tools, self._groups(pool))

    def create_volume(self, pool: Pool, node: Node, new: NewVolume) -> Volume:
        """As the contract says: of type gp3, encrypted, in the node's zone, in whole GiB."""
        return volumes.create(self._tools, aws_group(pool, node.group), node.node_id, new)

    def attach_volume(self, pool: Pool, volume_id: str, node_id: str) -> Volume:
        """As the contract says."""
        return volumes.attach(self._tools, self._groups(pool), volume_id, node_id)

    def detach_volume(self, pool: Pool, volume_id: str, node_id: str) -> None:
        """As the contract says."""
        volumes.detach(self._tools, self._groups(pool), volume_id, node_id)

    def grow_volume(self, pool: Pool, volume_id: str, gib: float) -> Volume:
        """As the contract says, in whole GiB; EBS lets a volume be changed again after hours only."""
        return volumes.grow(self._tools, self._groups(pool), volume_id, gib)

    def delete_volume(self, pool: Pool, volume_id: str) -> None:
        """As the contract says."""
        volumes.delete(self._tools, self._groups(pool), volume_id)

    # ---- limits

    def headroom(self, pool: Pool, group: str, offering: Offering) -> tuple[Headroom, ...]:
        """As the contract says: vCPU quotas of the region, addresses of the subnets."""
        return tuple(limits.headroom(self._tools, aws_group(pool, group), offering))

    def disk_gib(self, pool: Pool, group: str) -> float | None:
        """As the contract says: by the launch template."""
        return limits.disk_gib(self._tools, aws_group(pool, group))

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """As the contract says: what Auto Scaling has recorded; nothing records when a fleet's machine was ready."""
        found = aws_group(pool, group)
        if not found.asg:
            return Recollection(means="EC2 keeps no record of when a fleet's machine was ready")
        warm = self._scaling(pool, group).described().get("WarmPoolConfiguration") or {}
        return recall.recall(self._tools, found, since, str(warm.get("PoolState", "Stopped")) if warm else "")

    # ---- inside

    def _groups(self, pool: Pool) -> Iterator[AwsGroup]:
        return (aws_group(pool, g.name) for g in pool.groups if g.provider == self.name)

    def _kind(self, group: AwsGroup) -> Kind:
        return ScalingGroup(self._tools, group) if group.asg else FleetGroup(self._tools, group)

    def _scaling(self, pool: Pool, group: str) -> ScalingGroup:
        kind = self._kind(aws_group(pool, group))
        if not isinstance(kind, ScalingGroup):
            raise PoolError(f"group {group} has no Auto Scaling group", where=pool.name, hint="name it in options.asg")
        return kind


def _belongs(group: AwsGroup, instance: Json, members: Mapping[str, Member]) -> bool:
    """True if the instance is of this group: by its Auto Scaling group, else by its tags."""
    tags = tags_of(instance)
    if str(instance["InstanceId"]) in members:
        return tags.get(POOL, group.pool.name) == group.pool.name
    return not group.asg and tags.get(POOL) == group.pool.name and tags.get(GROUP) == group.group.name


def _by_queue(groups: Iterator[AwsGroup]) -> list[AwsGroup]:
    """One group per queue."""
    return list({g.queue_url: g for g in groups if g.queue_url}.values())


def _any(groups: Iterator[AwsGroup]) -> AwsGroup:
    return next(groups)
