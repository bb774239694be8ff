"""What both kinds of group write the same way: notes on machines, and their starts and ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from preprov.contracts import Clock, LaunchRequest
from preprov.model.errors import ConflictError, NotFoundError, PoolError
from preprov.model.notes import (
    CREATED,
    DRAIN,
    EXPIRES,
    FENCE,
    GROUP,
    OFFERING,
    POOL,
    PRELOAD,
    REPORT,
    STARTED,
    TOKEN,
    gather,
    spread,
)
from preprov.model.offerings import Preload
from preprov.pools.aws.clients import Clients, as_tags, batches
from preprov.pools.aws.errors import calling
from preprov.pools.aws.fence import TAGGED_AT_ONCE, Fences
from preprov.pools.aws.listing import Listing
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Heard, Seen
from preprov.pools.machines.shortage import Shortages

_AT_ONCE: Final = 200


@dataclass(frozen=True)
class Tools:
    """What a kind of group works with.

    Attributes:
        owner: name of this preprov's store; "" = it has none.
        greeting: further notes of machines that are to serve, such as who may hand them tasks; always the same.
    """

    clients: Clients
    listing: Listing
    fences: Fences
    shortages: Shortages
    heard: Heard
    clock: Clock
    owner: Callable[[], str] = str
    greeting: Callable[[], Mapping[str, str]] = dict


def launch_notes(request: LaunchRequest, group: AwsGroup) -> dict[str, str]:
    """Tags of the nodes of a launch, the same however often it is sent.

    Raises:
        PoolError: what is to be preloaded does not fit.
    """
    preload = request.pool.preload.merged(request.preload)
    return {
        **request.tags,
        POOL: request.pool.name,
        GROUP: request.group,
        TOKEN: request.token,
        OFFERING: request.offering.key,
        **preload_notes(preload, group.where),
    }


def preload_notes(preload: Preload, where: str) -> dict[str, str]:
    """What is to be on the disk, as tags; none if nothing is.

    Raises:
        PoolError: it is too long.
    """
    images = [{"key": i.digest or i.uri, "uri": i.uri, "digest": i.digest} for i in preload.images]
    datasets = [{"key": d.key, "uri": d.uri, "sha256": d.sha256} for d in preload.datasets]
    if not images and not datasets:
        return {}
    try:
        return spread(PRELOAD, {"images": images, "datasets": datasets})
    except ValueError as e:
        raise PoolError(str(e), where=where, hint="bake an image that holds most of it") from None


def later_notes(request: LaunchRequest, clock: Clock) -> dict[str, str]:
    """Tags that differ from one sending of a launch to the next, and so are written after it."""
    notes = {CREATED: clock.now().isoformat(timespec="seconds")}
    if request.expires_at is not None:
        notes[EXPIRES] = request.expires_at.isoformat(timespec="seconds")
    return notes


def write_notes(tools: Tools, group: AwsGroup, ids: Iterable[str], notes: dict[str, str]) -> None:
    """Put tags on instances.

    Raises:
        PoolError: it failed.
    """
    ec2 = tools.clients.get("ec2", group.place)
    for some in batches(ids, TAGGED_AT_ONCE):
        with calling(group.where):
            ec2.create_tags(Resources=list(some), Tags=as_tags(notes))
    tools.listing.forget(group.place)


def drain(tools: Tools, group: AwsGroup, ids: Sequence[str]) -> None:
    """These nodes take no new task."""
    write_notes(tools, group, ids, {DRAIN: "yes"})


def take_tasks_again(tools: Tools, group: AwsGroup, ids: Sequence[str], *more: str) -> None:
    """Take away what forbids tasks, left from before the nodes slept, and other notes that are named.

    Raises:
        PoolError: it failed.
    """
    take_notes(tools, group, ids, FENCE, DRAIN, *more)


def take_notes(tools: Tools, group: AwsGroup, ids: Sequence[str], *keys: str) -> None:
    """Take notes away.

    Raises:
        PoolError: it failed.
    """
    ec2 = tools.clients.get("ec2", group.place)
    for some in batches(ids, TAGGED_AT_ONCE):
        with calling(group.where):
            ec2.delete_tags(Resources=list(some), Tags=[{"Key": k} for k in keys])
    tools.listing.forget(group.place)


def start_instances(tools: Tools, group: AwsGroup, seen: Mapping[str, Seen], preload: Preload) -> None:
    """Start stopped or hibernated instances; what runs is left alone.

    What was noted for the earlier run is taken away first, or it would be read as of the new one.

    Raises:
        ConflictError: one is still on its way to sleep; the others are started.
        PoolError: it failed.
    """
    ec2 = tools.clients.get("ec2", group.place)
    asleep = [i for i, s in seen.items() if s.state == "stopped"]
    for some in batches(asleep, _AT_ONCE):
        take_tasks_again(tools, group, some, f"{REPORT}.0")
        write_notes(tools, group, some, {STARTED: tools.clock.now().isoformat(timespec="seconds")})
        write_preload(tools, group, {i: seen[i] for i in some}, preload)
        with calling(group.where):
            ec2.start_instances(InstanceIds=list(some))
    tools.listing.forget(group.place)
    late = [i for i, s in seen.items() if s.state == "stopping"]
    if late:
        raise ConflictError(f"{', '.join(late)} is still going to sleep", where=group.where, hint="try again")


def write_preload(tools: Tools, group: AwsGroup, seen: Mapping[str, Seen], preload: Preload) -> None:
    """Note a preload on machines that have another; those that are told alike are told in one call.

    Raises:
        PoolError: it does not fit, or it failed.
    """
    told: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for node_id, one in seen.items():
        told.setdefault(tuple(_more_preload(one, preload, group.where).items()), []).append(node_id)
    for notes, ids in told.items():
        if notes:
            write_notes(tools, group, ids, dict(notes))


def _more_preload(seen: Seen, preload: Preload, where: str) -> dict[str, str]:
    """Tags that add a preload to the one a machine has; none if it adds nothing."""
    old = gather(PRELOAD, seen.tags) or {"images": [], "datasets": []}
    new = gather(PRELOAD, preload_notes(preload, where)) or {"images": [], "datasets": []}
    both = {k: [*old[k], *(i for i in new[k] if i not in old[k])] for k in old}
    if both == old:
        return {}
    try:
        return spread(PRELOAD, both)
    except ValueError as e:
        raise PoolError(str(e), where=where, hint="bake an image that holds most of it") from None


def end_instances(tools: Tools, group: AwsGroup, ids: Sequence[str]) -> None:
    """End instances that are known to be idle; one that is gone is fine.

    Raises:
        PoolError: it failed; nothing is hidden.
    """
    ec2 = tools.clients.get("ec2", group.place)
    for some in batches(ids, _AT_ONCE):
        try:
            with calling(group.where):
                ec2.terminate_instances(InstanceIds=list(some))
        except NotFoundError:  # one unknown id spoils the whole call
            for node_id in some:
                _end_one(tools, group, node_id)
    tools.listing.forget(group.place)


def _end_one(tools: Tools, group: AwsGroup, node_id: str) -> None:
    try:
        with calling(group.where):
            tools.clients.get("ec2", group.place).terminate_instances(InstanceIds=[node_id])
    except NotFoundError:
        return


def end_unlisted(tools: Tools, group: AwsGroup, ids: Sequence[str]) -> None:
    """End what no listing shows: machines too new to be listed, which run nothing yet, or none at all.

    Raises:
        PoolError: it failed.
    """
    for node_id in ids:
        _end_one(tools, group, node_id)
    tools.listing.forget(group.place)


def alive_in(tools: Tools, group: AwsGroup) -> int:
    """How many instances of the group exist."""
    notes = {POOL: group.pool.name, GROUP: group.group.name}
    mine = [i for i in tools.listing.alive(group.place) if _carries(i.get("Tags") or (), notes)]
    return len(mine)


def _carries(tags: Iterable[Mapping[str, str]], notes: Mapping[str, str]) -> bool:
    have = {t["Key"]: t.get("Value", "") for t in tags}
    return all(have.get(k) == v for k, v in notes.items())
