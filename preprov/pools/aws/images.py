"""Amazon machine images: made from a bench, rolled out as a version of the launch template."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import Image, LaunchRequest
from preprov.model.adoption import is_ours
from preprov.model.errors import ConflictError, NotFoundError, PoolError
from preprov.model.nodes import Node
from preprov.model.notes import DRAIN, GROUP, POOL, PREFIX
from preprov.pools.aws import scaling, writes
from preprov.pools.aws.clients import Json, as_tags, pages, tags_of
from preprov.pools.aws.errors import calling
from preprov.pools.aws.fleet import FleetGroup, client_token
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Seen, node
from preprov.pools.aws.writes import Tools
from preprov.pools.machines.bench import BAKE, image_name

DIGEST: Final = f"{PREFIX}baked"
_STATES: Final[Mapping[str, Any]] = {"pending": "making", "available": "ready"}
_FLOATING: Final = ("$Default", "$Latest")
_OURS: Final = "preprov: "
"""How the description of a version begins that a rollout made."""


def open_bench(tools: Tools, group: AwsGroup, request: LaunchRequest) -> tuple[str, ...]:
    """An instance of the group's launch template, launched by a fleet: it is in no Auto Scaling group.

    Raises:
        PoolError: it could not be launched.
    """
    bench = _bench(group)
    spec, subnets = launched_from(tools, group)
    name = spec.get("LaunchTemplateId") or spec["LaunchTemplateName"]
    bench = replace(bench, asg="", template=name, version=spec["Version"], subnets=group.subnets or subnets)
    offering = request.offering if group.subnets else replace(request.offering, zone="")
    ours = replace(request, group=bench.group.name, offering=offering, tags={**request.tags, DRAIN: "yes"})
    return FleetGroup(tools, bench).launch(ours)


def benches(tools: Tools, group: AwsGroup) -> list[Node]:
    """Those of the group.

    Raises:
        PoolError: they could not be listed.
    """
    bench, now = _bench(group), tools.clock.now()
    mine = {POOL: group.pool.name, GROUP: bench.group.name}
    found = [i for i in tools.listing.alive(group.place) if mine.items() <= tags_of(i).items()]
    nodes = (node(Seen.of(bench, i), tools.heard, now) for i in found)
    return [n for n in nodes if n is not None]


def close_benches(tools: Tools, group: AwsGroup, node_ids: Sequence[str]) -> None:
    """End those of these that are benches of the group.

    Raises:
        PoolError: it failed.
    """
    there = {n.node_id for n in benches(tools, group)} & set(node_ids)
    if there:
        writes.end_instances(tools, group, sorted(there))


def images(tools: Tools, group: AwsGroup) -> tuple[Image, ...]:
    """Images that carry the group's tags, the newest first.

    Raises:
        PoolError: they could not be listed.
    """
    found = sorted(_listed(tools, group), key=lambda i: str(i["CreationDate"]), reverse=True)
    if not found:
        return ()
    used = _used(tools, group)
    return tuple(
        Image(
            image_id=str(i["ImageId"]),
            name=str(i.get("Name", "")),
            digest=tags_of(i).get(DIGEST, ""),
            state=_STATES.get(str(i["State"]), "failed"),
            made_at=datetime.fromisoformat(str(i["CreationDate"])).astimezone(UTC),
            used_by=tuple(used.get(str(i["ImageId"]), ())),
        )
        for i in found
    )


def make_image(tools: Tools, group: AwsGroup, node_id: str, digest: str) -> None:
    """Make one of an instance, which EC2 restarts for it, so that what is written is on the disk.

    Raises:
        PoolError: it failed.
    """
    if any(tags_of(i).get(DIGEST) == digest for i in _listed(tools, group)):
        return
    if node_id not in {n.node_id for n in benches(tools, group)}:
        raise NotFoundError(f"no bench {node_id}", where=group.where, hint="run `preprov image bake` again")
    tags = as_tags({**_tags(group), DIGEST: digest})
    with calling(group.where):
        tools.clients.get("ec2", group.place).create_image(
            InstanceId=node_id,
            Name=image_name(group.pool, group.group.name, digest),
            Description=f"pool {group.pool.name}, group {group.group.name}, preload {digest}",
            TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")],
        )


def roll_out(tools: Tools, group: AwsGroup, image_id: str) -> tuple[str, ...]:
    """A new version of the launch template names the image, and is its default if the group goes by that.

    Raises:
        PoolError: the group is pinned to a version, or it failed.
    """
    if image_id not in {str(i["ImageId"]) for i in _listed(tools, group)}:
        raise NotFoundError(f"no image {image_id} of this group", where=group.where, hint="preprov image list")
    spec, _ = launched_from(tools, group)
    now = version(tools, group, spec)
    was = str(now["LaunchTemplateData"].get("ImageId", ""))
    if was == image_id:
        return ()
    if spec["Version"] not in _FLOATING:
        raise PoolError(
            f"the group is pinned to version {spec['Version']} of {now['LaunchTemplateName']}",
            where=group.where,
            hint=f'its shape is somebody else\'s: in Terraform, set image_id = "{image_id}"',
        )
    ec2, name = tools.clients.get("ec2", group.place), {"LaunchTemplateId": now["LaunchTemplateId"]}
    source = str(now["VersionNumber"])
    with calling(group.where):
        made = ec2.create_launch_template_version(
            **name,
            SourceVersion=source,
            LaunchTemplateData={"ImageId": image_id},
            VersionDescription=f"{_OURS}{image_id}",
            ClientToken=_token(group, image_id, source),
        )["LaunchTemplateVersion"]
        if spec["Version"] == "$Default":
            ec2.modify_launch_template(**name, DefaultVersion=str(made["VersionNumber"]))
    return (f"launch template {now['LaunchTemplateName']}: image {was} -> {image_id} (version {source} + 1)",)


def boots_from(tools: Tools, group: AwsGroup) -> dict[str, object]:
    """What a rollout changes: the version that the group follows; {} where it follows none, so that none is touched.

    Of a mixed instances policy it is the template that all its types share: one that an override names of its own is
    not rolled out to.

    Raises:
        PoolError: it could not be asked.
    """
    spec = _spec_of(scaling.described(tools, group)) if group.asg else group.template_spec
    if spec is None or spec["Version"] not in _FLOATING:
        return {}
    try:
        now = version(tools, group, spec)
    except NotFoundError:  # somebody deleted it: there is nothing to go back to
        return {}
    return {
        "LaunchTemplateId": str(now["LaunchTemplateId"]),
        "Follows": spec["Version"],
        "VersionNumber": int(now["VersionNumber"]),
        "image": str(now["LaunchTemplateData"].get("ImageId", "")),
        "by": "preprov" if str(now.get("VersionDescription", "")).startswith(_OURS) else "owner",
    }


def put_back(tools: Tools, group: AwsGroup, was: object) -> Iterator[str]:
    """Have the group boot from what `boots_from` said, if a rollout of ours wrote what it boots from now.

    The default goes back to that version. The latest cannot: a copy of that version becomes the latest.

    Raises:
        PoolError: it failed.
    """
    now = boots_from(tools, group)
    if not isinstance(was, Mapping) or now == was or not is_ours(now):
        return
    ec2, name = tools.clients.get("ec2", group.place), {"LaunchTemplateId": str(was["LaunchTemplateId"])}
    old = str(was["VersionNumber"])
    with calling(group.where):
        if was["Follows"] == "$Default":
            ec2.modify_launch_template(**name, DefaultVersion=old)
        else:
            ec2.create_launch_template_version(
                **name,
                SourceVersion=old,
                LaunchTemplateData={"ImageId": was["image"]} if was["image"] else {},
                VersionDescription=f"as version {old}, given back by preprov",
                ClientToken=_token(group, "back", old, str(now["VersionNumber"])),
            )
    yield f"launch template {was['LaunchTemplateId']}: image {now['image']} -> {was['image']} (as version {old})"


def delete_image(tools: Tools, group: AwsGroup, image_id: str) -> None:
    """Deregister it, and delete its snapshots with it.

    Raises:
        ConflictError: it is in use.
        PoolError: it failed.
    """
    if image_id not in {str(i["ImageId"]) for i in _listed(tools, group)}:
        return
    used = _used(tools, group).get(image_id)
    if used:
        raise ConflictError(f"image {image_id} is used by {', '.join(used)}", where=group.where, hint="keep it")
    with calling(group.where):
        tools.clients.get("ec2", group.place).deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)


# ---- inside


def _bench(group: AwsGroup) -> AwsGroup:
    return replace(group, group=replace(group.group, name=f"{group.group.name}{BAKE}", max_nodes=1))


def _tags(group: AwsGroup) -> dict[str, str]:
    return {POOL: group.pool.name, GROUP: group.group.name}


def _token(group: AwsGroup, *parts: str) -> str:
    offering = group.group.offerings[0]
    request = LaunchRequest(group.pool, group.group.name, offering, 1, "image", group.pool.preload)
    return client_token(request, *parts)


def _listed(tools: Tools, group: AwsGroup) -> list[Json]:
    filters = [{"Name": f"tag:{k}", "Values": [v]} for k, v in _tags(group).items()]
    ec2 = tools.clients.get("ec2", group.place)
    return list(pages(ec2, "describe_images", "Images", group.where, Owners=["self"], Filters=filters))


def launched_from(tools: Tools, group: AwsGroup) -> tuple[dict[str, str], dict[str, str]]:
    """The launch template that the group's machines are made from, and the subnets of its Auto Scaling group.

    Raises:
        PoolError: it has none, or could not be asked.
    """
    if not group.asg:
        return group.template_spec, {}
    asg = scaling.described(tools, group)
    spec = _spec_of(asg)
    if spec is None:
        raise PoolError(f"group {group.asg} has no launch template", where=group.where, hint="give it one")
    subnets = [s for s in str(asg.get("VPCZoneIdentifier") or "").split(",") if s]
    return spec, {s: s for s in subnets}


def _spec_of(asg: Json) -> dict[str, str] | None:
    mixed = (asg.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {}).get("LaunchTemplateSpecification")
    found = asg.get("LaunchTemplate") or mixed
    if not found:
        return None
    key = "LaunchTemplateId" if found.get("LaunchTemplateId") else "LaunchTemplateName"
    return {key: str(found[key]), "Version": str(found.get("Version") or "$Default")}


def version(tools: Tools, group: AwsGroup, spec: Mapping[str, str]) -> Json:
    """That version of a launch template.

    Raises:
        PoolError: there is none, or it could not be asked.
    """
    name = {k: v for k, v in spec.items() if k != "Version"}
    with calling(group.where):
        found = tools.clients.get("ec2", group.place).describe_launch_template_versions(
            **name, Versions=[spec["Version"]]
        )["LaunchTemplateVersions"]
    if not found:
        raise NotFoundError(f"no version {spec['Version']} of the launch template", where=group.where)
    return dict(found[0])


def _used(tools: Tools, group: AwsGroup) -> dict[str, list[str]]:
    """Image -> who uses it: the version that the group launches from, and instances of any pool."""
    spec, _ = launched_from(tools, group)
    now = version(tools, group, spec)
    used = {str(now["LaunchTemplateData"].get("ImageId", "")): [f"launch template {now['LaunchTemplateName']}"]}
    for i in _by_image(tools.listing.alive(group.place)):
        used.setdefault(i[0], []).append(i[1])
    return used


def _by_image(instances: Iterable[Json]) -> list[tuple[str, str]]:
    return [(str(i.get("ImageId", "")), str(i["InstanceId"])) for i in instances]
