"""Images of Compute Engine: made from a stopped bench's disk, rolled out as a new template of the group."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import Clock, Image
from preprov.model.adoption import is_ours
from preprov.model.errors import ConflictError, NotFoundError
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.gcp.view import name_of
from preprov.pools.machines.bench import image_name, put_to_sleep

_OF: Final = "preprov-of"
"""Label of an image: which pool and group it is of, as a hash, for labels are short and plain."""
_DIGEST: Final = "preprov-baked"
_OURS: Final = "preprov: "
"""How the description of a template begins that a rollout made."""
_STATES: Final[Mapping[str, Any]] = {"PENDING": "making", "READY": "ready"}


def images(group: ManagedGroup) -> tuple[Image, ...]:
    """Images that carry the group's label, the newest first.

    Raises:
        PoolError: they could not be listed.
    """
    found = sorted(_listed(group), key=lambda i: str(i.creation_timestamp), reverse=True)
    used = _current(group)[1] if found else ""
    return tuple(
        Image(
            image_id=str(i.name),
            name=str(i.name),
            digest=str(dict(i.labels).get(_DIGEST, "")),
            state=_STATES.get(str(i.status), "failed"),
            made_at=datetime.fromisoformat(str(i.creation_timestamp)).astimezone(UTC),
            used_by=(f"template of {group.options.mig}",) if name_of(used) == i.name else (),
        )
        for i in found
    )


def make_image(group: ManagedGroup, bench: ManagedGroup, clock: Clock, node_id: str, digest: str) -> None:
    """Stop the bench and make an image of the disk it boots from.

    Raises:
        NotFoundError: there is no such bench.
        ConflictError: it is not stopped in five minutes.
        PoolError: it failed.
    """
    if any(dict(i.labels).get(_DIGEST) == digest for i in _listed(group)):
        return
    put_to_sleep(bench, clock, node_id)
    disks = group.ask("Instances", "get", instance=node_id).disks
    boot = next(d for d in disks if d.boot)
    pool, name = group.pool, group.group.name
    resource = {
        "name": image_name(pool, name, digest),
        "source_disk": boot.source,
        "description": f"preprov: pool {pool.name}, group {name}, preload {digest}",
        "labels": {_OF: _of(group), _DIGEST: digest},
    }
    with suppress(ConflictError):  # it is being made already
        group.order_global("Images", "insert_unary", wait=False, image_resource=resource)


def roll_out(group: ManagedGroup, image_id: str) -> tuple[str, ...]:
    """A copy of the group's template that boots from the image; the group makes new machines from that.

    Raises:
        PoolError: it failed.
    """
    found = next((i for i in _listed(group) if i.name == image_id), None)
    if found is None:
        raise NotFoundError(f"no image {image_id} of this group", where=group.where, hint="preprov image list")
    template, was = _current(group)
    if name_of(was) == image_id:
        return ()
    place = group.options.place
    name = _template_name(group, dict(found.labels).get(_DIGEST, ""))
    properties = type(template.properties)(template.properties)
    for disk in properties.disks:
        if disk.boot:
            disk.initialize_params.source_image = f"projects/{place.project}/global/images/{image_id}"
    resource = {"name": name, "description": f"{_OURS}{template.name} from {image_id}", "properties": properties}
    with suppress(ConflictError):  # a crash left it: it is the same
        group.order_global("InstanceTemplates", "insert_unary", instance_template_resource=resource)
    group.patch({"instance_template": f"projects/{place.project}/global/instanceTemplates/{name}"})
    return (f"template of {group.options.mig}: {template.name} -> {name}, image {name_of(was)} -> {image_id}",)


def boots_from(group: ManagedGroup) -> dict[str, object]:
    """What a rollout changes: the group's template.

    Raises:
        PoolError: it could not be asked.
    """
    url = str(group.settings().instance_template)
    if not url:
        return {}
    description, image = "", ""
    with suppress(NotFoundError):  # a template of one region
        template, image = _current(group)
        description = str(template.description)
    by = "preprov" if description.startswith(_OURS) else "owner"
    return {"instance_template": url, "image": name_of(image), "by": by}


def put_back(group: ManagedGroup, was: object) -> Iterator[str]:
    """Give the group the template that `boots_from` said, if a rollout of ours gave it the present one.

    Raises:
        PoolError: it failed.
    """
    now = boots_from(group)
    if isinstance(was, Mapping) and now != was and is_ours(now):
        group.patch({"instance_template": was["instance_template"]})
        templates = " -> ".join(name_of(str(t["instance_template"])) for t in (now, was))
        yield f"template of {group.options.mig}: {templates}, image {now['image']} -> {was['image']}"


def delete_image(group: ManagedGroup, image_id: str) -> None:
    """Delete it, and the template that was made to boot from it.

    Raises:
        ConflictError: it is in use.
        PoolError: it failed.
    """
    found = next((i for i in _listed(group) if i.name == image_id), None)
    if found is None:
        return
    template, used = _current(group)
    name = _template_name(group, dict(found.labels).get(_DIGEST, ""))
    if name_of(used) == image_id or template.name == name:
        raise ConflictError(f"image {image_id} is that of template {template.name}", where=group.where, hint="keep it")
    with suppress(NotFoundError):
        group.order_global("InstanceTemplates", "delete_unary", instance_template=name)
    with suppress(NotFoundError):
        group.order_global("Images", "delete_unary", image=image_id)


# ---- inside


def _of(group: ManagedGroup) -> str:
    return hashlib.sha256(group.where.encode()).hexdigest()[:16]


def _template_name(group: ManagedGroup, digest: str) -> str:
    return f"{group.options.mig[:44]}-{digest}"


def _listed(group: ManagedGroup) -> list[Any]:
    return group.ask_all("Images", "list", filter=f"labels.{_OF} = {_of(group)}")


def _current(group: ManagedGroup) -> tuple[Any, str]:
    """The group's template, and the image that it boots from."""
    template = group.ask("InstanceTemplates", "get", instance_template=name_of(group.settings().instance_template))
    boot = next((d for d in template.properties.disks if d.boot), None)
    return template, str(boot.initialize_params.source_image) if boot is not None else ""
