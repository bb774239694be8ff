"""Volumes of Elastic Block Store: encrypted, of a pool by their tags, each on one instance at a time."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from preprov.contracts import NewVolume, Volume
from preprov.model.errors import ConflictError, NotFoundError, QuotaExceededError
from preprov.model.notes import OWNER, POOL, PREFIX, TOKEN
from preprov.model.pools import Pool
from preprov.pools.aws.clients import Json, as_tags, pages, tags_of
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup, Place
from preprov.pools.aws.writes import Tools

NAME: Final = f"{PREFIX}volume"
TENANT: Final = f"{PREFIX}tenant"
_POINTS: Final = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")
"""Attachment points that EC2 keeps for volumes. On instances of Nitro the disk itself is an NVMe device, whose serial
number is the volume's id."""
_OVER: Final = ("deleting", "deleted", "error")
_LOOKS: Final = {"Delay": 1, "MaxAttempts": 40}
"""What EBS does within seconds is waited for, by the SDK."""


def volumes(tools: Tools, groups: Iterable[AwsGroup]) -> tuple[Volume, ...]:
    """Those of the groups' pool, in all their places.

    Raises:
        PoolError: they could not be listed.
    """
    found = [_shown(g.pool, v) for g in _by_place(groups) for v in _listed(tools, g)]
    return tuple(sorted(found, key=lambda v: (v.name, v.volume_id)))


def create(tools: Tools, group: AwsGroup, node_id: str, new: NewVolume) -> Volume:
    """In the zone of that instance, in whole GiB.

    Raises:
        PoolError: it could not be made, or is not ready to be attached.
    """
    pool = group.pool
    here = next((v for v in _listed(tools, group) if tags_of(v).get(NAME) == new.name), None)
    if here is None:
        zone = str(_instance(tools, group, node_id)["Placement"]["AvailabilityZone"])
        tags = {POOL: pool.name, NAME: new.name, TENANT: new.tenant, TOKEN: new.token}
        tags |= {OWNER: tools.owner()} if tools.owner() else {}
        with calling(group.where):
            here = _ec2(tools, group).create_volume(
                AvailabilityZone=zone,
                Size=math.ceil(new.gib),
                VolumeType="gp3",
                Encrypted=True,
                ClientToken=_token(pool, new),
                TagSpecifications=[{"ResourceType": "volume", "Tags": as_tags(tags)}],
            )
    if here["State"] == "creating":
        _wait(tools, group, "volume_available", here["VolumeId"], "it is still being made")
        here = {**here, "State": "available"}
    return _shown(pool, here)


def attach(tools: Tools, groups: Iterable[AwsGroup], volume_id: str, node_id: str) -> Volume:
    """At the first attachment point of the instance that is free.

    Raises:
        PoolError: it could not be attached.
    """
    group, has = _find(tools, groups, volume_id)
    there = _attached_to(has)
    if there not in ("", node_id):
        raise ConflictError(f"{volume_id} is attached to {there}", where=group.where, hint="detach it there first")
    if any(a.get("State") in ("detaching", "busy") for a in has.get("Attachments") or ()):
        raise ConflictError(f"{there} has not let go of {volume_id} yet", where=group.where, hint="try again")
    if not there:
        taken = {m["DeviceName"] for m in _instance(tools, group, node_id).get("BlockDeviceMappings", ())}
        point = next((p for p in _POINTS if p not in taken), None)
        if point is None:
            raise QuotaExceededError(f"{node_id} has no attachment point left", where=group.where, hint="detach one")
        with calling(group.where):
            _ec2(tools, group).attach_volume(VolumeId=volume_id, InstanceId=node_id, Device=point)
        tools.listing.forget(group.place)
    _wait(tools, group, "volume_in_use", volume_id, "it is still being attached")
    return _shown(group.pool, _one(tools, group, volume_id))


def detach(tools: Tools, groups: Iterable[AwsGroup], volume_id: str, node_id: str) -> None:
    """Take it from that instance, and wait until EC2 has it back.

    Raises:
        PoolError: it failed, or the instance does not let go of it.
    """
    try:
        group, has = _find(tools, groups, volume_id)
    except NotFoundError:
        return
    if _attached_to(has) != node_id:
        return
    if all(a.get("State") != "detaching" for a in has["Attachments"]):
        with calling(group.where):
            _ec2(tools, group).detach_volume(VolumeId=volume_id, InstanceId=node_id)
        tools.listing.forget(group.place)
    _wait(tools, group, "volume_available", volume_id, f"{node_id} still has it: unmount it there")


def grow(tools: Tools, groups: Iterable[AwsGroup], volume_id: str, gib: float) -> Volume:
    """EBS shows the new size when the change is under way.

    Raises:
        PoolError: it failed.
    """
    group, has = _find(tools, groups, volume_id)
    wanted = math.ceil(gib)
    if int(has["Size"]) < wanted:
        with calling(group.where):
            _ec2(tools, group).modify_volume(VolumeId=volume_id, Size=wanted)
        has = {**has, "Size": wanted}
    return _shown(group.pool, has)


def delete(tools: Tools, groups: Iterable[AwsGroup], volume_id: str) -> None:
    """Delete one that is attached to nothing.

    Raises:
        ConflictError: it is attached.
        PoolError: it failed.
    """
    try:
        group, has = _find(tools, groups, volume_id)
        there = _attached_to(has)
        if there:
            raise ConflictError(f"{volume_id} is attached to {there}", where=group.where, hint="detach it first")
        with calling(group.where):
            _ec2(tools, group).delete_volume(VolumeId=volume_id)
    except NotFoundError:
        return


# ---- inside


def _ec2(tools: Tools, group: AwsGroup) -> Any:
    return tools.clients.get("ec2", group.place)


def _by_place(groups: Iterable[AwsGroup]) -> Iterator[AwsGroup]:
    """One group of each place."""
    by: dict[Place, AwsGroup] = {}
    for g in groups:
        by.setdefault(g.place, g)
    return iter(by.values())


def _token(pool: Pool, new: NewVolume) -> str:
    return hashlib.sha256("\x1f".join((pool.name, "volume", new.name, new.token)).encode()).hexdigest()


def _listed(tools: Tools, group: AwsGroup) -> list[Json]:
    """Volumes of the pool that exist; one that was made just now may be missing."""
    filters = [{"Name": f"tag:{POOL}", "Values": [group.pool.name]}, {"Name": "tag-key", "Values": [NAME]}]
    found = pages(_ec2(tools, group), "describe_volumes", "Volumes", group.where, Filters=filters)
    return [v for v in found if v["State"] not in _OVER]


def _one(tools: Tools, group: AwsGroup, volume_id: str) -> Json:
    """That volume of the pool, by its id: no listing lags behind that."""
    with calling(group.where):
        found = _ec2(tools, group).describe_volumes(VolumeIds=[volume_id])["Volumes"]
    for v in found:
        if v["State"] not in _OVER and tags_of(v).get(POOL) == group.pool.name and NAME in tags_of(v):
            return dict(v)
    raise NotFoundError(f"there is no volume {volume_id}", where=group.where, hint="observe again")


def _find(tools: Tools, groups: Iterable[AwsGroup], volume_id: str) -> tuple[AwsGroup, Json]:
    where = ""
    for group in _by_place(groups):
        where = group.where
        with suppress(NotFoundError):
            return group, _one(tools, group, volume_id)
    raise NotFoundError(f"there is no volume {volume_id}", where=where, hint="observe again")


def _instance(tools: Tools, group: AwsGroup, node_id: str) -> Json:
    found = tools.listing.of_ids(group.place, [node_id]).get(node_id)
    if found is None:
        raise NotFoundError(f"no such node: {node_id}", where=group.where, hint="observe again")
    return found


def _wait(tools: Tools, group: AwsGroup, state: str, volume_id: str, otherwise: str) -> None:
    """Have the SDK wait for a state of the volume.

    Raises:
        ConflictError: it does not come to it in time.
        PoolError: a call failed.
    """
    from botocore.exceptions import ClientError, WaiterError

    with calling(group.where):
        try:
            _ec2(tools, group).get_waiter(state).wait(VolumeIds=[volume_id], WaiterConfig=_LOOKS)
        except WaiterError as e:
            error = e.last_response.get("Error") if isinstance(e.last_response, dict) else None
            if error:
                raise ClientError({"Error": error}, "DescribeVolumes") from e
            raise ConflictError(f"{volume_id}: {otherwise}", where=group.where, hint="try again") from e


def _attached_to(raw: Json) -> str:
    return next((str(a["InstanceId"]) for a in raw.get("Attachments") or () if a.get("State") != "detached"), "")


def _shown(pool: Pool, raw: Json) -> Volume:
    tags = tags_of(raw)
    attached = [a for a in raw.get("Attachments") or () if a.get("State") != "detached"]
    return Volume(
        volume_id=str(raw["VolumeId"]),
        name=tags.get(NAME, ""),
        pool=pool.name,
        tenant=tags.get(TENANT, ""),
        gib=float(raw["Size"]),
        zone=str(raw.get("AvailabilityZone", "")),
        node_id=str(attached[0]["InstanceId"]) if attached else "",
        state=str(attached[0].get("State")) if attached else str(raw["State"]),
        device=str(attached[0].get("Device", "")) if attached else "",
        token=tags.get(TOKEN, ""),
    )
