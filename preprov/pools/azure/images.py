"""Versions of a compute gallery's image: made from a generalised bench, rolled out to the scale set's model."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import Clock, Image
from preprov.model.adoption import is_ours
from preprov.model.errors import ConfigError, ConflictError, NotFoundError
from preprov.model.notes import GROUP, POOL, PREFIX
from preprov.pools.azure.clients import Clients, Json, pages
from preprov.pools.azure.errors import calling
from preprov.pools.azure.group import ScaleSet
from preprov.pools.machines.bench import put_to_sleep

_DIGEST: Final = f"{PREFIX}baked"
_STATES: Final[Mapping[str, Any]] = {"Succeeded": "ready", "Creating": "making", "Updating": "making"}


class Gallery:
    """The images of one group; its options name the gallery and the image definition."""

    def __init__(self, clients: Clients, group: ScaleSet) -> None:
        if not group.options.gallery_image:
            raise ConfigError(
                "the group names no gallery",
                where=group.where,
                hint='options.gallery_image = "gallery/image definition" (generalised, of the machines\' generation)',
            )
        self._clients, self._group = clients, group
        self._gallery, self._definition = group.options.gallery_image.split("/")

    def images(self) -> tuple[Image, ...]:
        """Versions that carry the group's tags, the newest first.

        Raises:
            PoolError: they could not be listed.
        """
        found = self._listed()
        used = self._used() if found else {}
        made = [
            Image(
                image_id=str(v["id"]),
                name=f"{self._definition} {v['name']}",
                digest=str(v["tags"].get(_DIGEST, "")),
                state=_STATES.get(str(v["properties"].get("provisioningState")), "failed"),
                made_at=_when(v),
                used_by=tuple(used.get(str(v["id"]).lower(), ())),
            )
            for v in found
        ]
        return tuple(sorted(made, key=lambda i: i.made_at, reverse=True))

    def make(self, bench: ScaleSet, clock: Clock, node_id: str, digest: str) -> None:
        """Deallocate and generalise the bench, and begin a version of it; such a machine is never started again.

        Raises:
            NotFoundError: there is no such bench.
            ConflictError: it is not deallocated in five minutes.
            PoolError: it failed.
        """
        if any(v["tags"].get(_DIGEST) == digest for v in self._listed()):
            return
        put_to_sleep(bench, clock, node_id)
        options, compute = self._group.options, self._compute
        place, location = options.place, str(self._group.settings().get("location", ""))
        root = options.scale_set_id.rsplit("/", 2)[0]
        body = {
            "location": location,
            "tags": {**self._tags(), _DIGEST: digest},
            "properties": {
                "publishingProfile": {"targetRegions": [{"name": location}], "excludeFromLatest": True},
                "storageProfile": {"source": {"virtualMachineId": f"{root}/virtualMachines/{node_id}"}},
            },
        }
        with calling(self._group.where):
            compute.virtual_machines.generalize(place.resource_group, node_id)
            compute.gallery_image_versions.begin_create_or_update(
                place.resource_group,
                self._gallery,
                self._definition,
                _version(self._group.where, digest),
                body,
                polling=False,
            )

    def roll_out(self, image_id: str) -> tuple[str, ...]:
        """New machines of the scale set are made from it.

        Raises:
            PoolError: it failed.
        """
        if not self.has(image_id):
            raise NotFoundError(
                f"no image {image_id} of this group", where=self._group.where, hint="preprov image list"
            )
        settings = self._group.settings()
        was = _image_of(_profile(settings))
        if was.lower() == image_id.lower():
            return ()
        self._group.boot_from(settings, {"id": image_id})
        return (f"scale set {self._group.options.scale_set}: image {_short(was)} -> {_short(image_id)}",)

    def has(self, image_id: str) -> bool:
        """True if it is one of ours.

        Raises:
            PoolError: they could not be listed.
        """
        return image_id.lower() in {str(v["id"]).lower() for v in self._listed()}

    def delete(self, image_id: str) -> None:
        """Delete a version.

        Raises:
            ConflictError: it is in use.
            PoolError: it failed.
        """
        found = next((v for v in self._listed() if str(v["id"]).lower() == image_id.lower()), None)
        if found is None:
            return
        used = self._used().get(image_id.lower())
        if used:
            what = f"image {_short(image_id)} is used by {', '.join(used)}"
            raise ConflictError(what, where=self._group.where, hint="keep it")
        with calling(self._group.where):
            self._compute.gallery_image_versions.begin_delete(
                self._group.options.place.resource_group,
                self._gallery,
                self._definition,
                str(found["name"]),
                polling=False,
            )

    # ---- inside

    @property
    def _compute(self) -> Any:
        return self._clients.compute(self._group.options.place)

    def _tags(self) -> dict[str, str]:
        return {POOL: self._group.pool.name, GROUP: self._group.group.name}

    def _listed(self) -> list[Json]:
        place = self._group.options.place
        found = self._compute.gallery_image_versions.list_by_gallery_image(
            place.resource_group, self._gallery, self._definition
        )
        mine = self._tags().items()
        return [v for v in pages(self._group.where, found) if mine <= (v.get("tags") or {}).items()]

    def _used(self) -> dict[str, list[str]]:
        """Image, in lower case -> who uses it: the scale set's model, and its machines."""
        settings = self._group.settings()
        model = _image_of(_profile(settings)).lower()
        used = {model: [f"scale set {self._group.options.scale_set}"]}
        for vm in self._group.listed():
            used.setdefault(_image_of(vm.get("properties", {})).lower(), []).append(str(vm["name"]))
        return used


def boots_from(clients: Clients, group: ScaleSet) -> dict[str, object]:
    """What a rollout changes: the image of the scale set's model.

    Raises:
        PoolError: it could not be asked.
    """
    found = _profile(group.settings()).get("storageProfile", {}).get("imageReference") or {}
    reference = {k: v for k, v in found.items() if v is not None and k != "exactVersion"}  # Azure's own finding
    if not reference:
        return {}
    image = str(reference.get("id", ""))
    ours = bool(image and group.options.gallery_image) and Gallery(clients, group).has(image)
    return {"imageReference": reference, "image": image, "by": "preprov" if ours else "owner"}


def put_back(clients: Clients, group: ScaleSet, was: object) -> Iterator[str]:
    """Give the model the image that `boots_from` said, if a rollout of ours gave it the present one.

    Raises:
        PoolError: it failed.
    """
    now = boots_from(clients, group)
    if not isinstance(was, Mapping) or now == was or not is_ours(now):
        return
    reference = was["imageReference"]
    group.boot_from(group.settings(), {"id": None, **reference})  # a marketplace's has no id: ours is taken away
    names = " -> ".join(_short(str(i["image"])) if i["image"] else _of_market(i) for i in (now, was))
    yield f"scale set {group.options.scale_set}: image {names}"


def _of_market(found: Mapping[str, Any]) -> str:
    return ":".join(str(found["imageReference"].get(k, "")) for k in ("publisher", "offer", "sku", "version"))


def _profile(settings: Json) -> Json:
    return dict(settings["properties"].get("virtualMachineProfile", {}))


def _version(where: str, digest: str) -> str:
    """A version's name, which has to be numbers, by whose it is and what is on it."""
    found = hashlib.sha256(f"{where} {digest}".encode()).hexdigest()
    return f"1.{int(found[:7], 16)}.{int(found[7:14], 16)}"


def _image_of(profile: Json) -> str:
    return str(profile.get("storageProfile", {}).get("imageReference", {}).get("id", ""))


def _short(image_id: str) -> str:
    return "/".join(image_id.split("/")[-3::2]) or "none"


def _when(version: Json) -> datetime:
    text = version["properties"].get("publishingProfile", {}).get("publishedDate")
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else datetime.max.replace(tzinfo=UTC)
