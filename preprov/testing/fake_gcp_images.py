"""Images and instance templates of the fake Compute Engine: an image takes its time, a template cannot be changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from preprov.testing.fake_cloud import Answer, ApiError, Call, Json

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp

_STOCK = "projects/debian-cloud/global/images/family/debian-12"


@dataclass
class _Image:
    body: Json
    made_at: datetime
    ready_at: datetime
    fails: bool


class FakeGcpImages:
    """Those of the project.

    Attributes:
        takes_s: from the call until one can be booted from. fails: those that are made from now on.
    """

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud
        self.takes_s = 120.0
        self.fails = False
        self.kept: dict[str, _Image] = {}
        self.templates: dict[str, Json] = {}

    def routes(self) -> tuple[tuple[str, str, Any, str], ...]:
        """Method, path below the project, handler, right."""
        images, templates = "/global/images", "/global/instanceTemplates"
        return (
            ("GET", images, self._list, "images.list"),
            ("POST", images, self._insert, "images.create"),
            ("DELETE", f"{images}/{{name}}", self._delete, "images.delete"),
            ("GET", f"{templates}/{{name}}", self._get_template, "instanceTemplates.get"),
            ("POST", templates, self._insert_template, "instanceTemplates.create"),
            ("DELETE", f"{templates}/{{name}}", self._delete_template, "instanceTemplates.delete"),
        )

    def _list(self, call: Call) -> Answer:
        key, _, value = call.query.get("filter", "").removeprefix("labels.").partition(" = ")
        now = self._cloud.clock.now()
        found = [
            {**i.body, "status": "PENDING" if now < i.ready_at else "FAILED" if i.fails else "READY"}
            for i in self.kept.values()
            if not key or i.body.get("labels", {}).get(key) == value
        ]
        return Answer({"items": found})

    def _insert(self, call: Call) -> Answer:
        """A disk that is in use is refused, as by the real one."""
        name, disk, now = call.body["name"], call.body["sourceDisk"].rsplit("/", 1)[-1], self._cloud.clock.now()
        if name in self.kept:
            raise ApiError(409, "alreadyExists", f"The resource 'images/{name}' already exists")
        if self._cloud.machine(disk).status(now) != "TERMINATED":
            raise ApiError(400, "resourceInUseByAnotherResource", f"The disk {disk} is in use")

        def change() -> None:
            body = {**call.body, "creationTimestamp": now.isoformat()}
            self.kept[name] = _Image(body, now, now + timedelta(seconds=self.takes_s), self.fails)

        return self._cloud.once(call, "insert", f"images/{name}", change)

    def _delete(self, call: Call) -> Answer:
        name = call.parts["name"]
        if name not in self.kept:
            raise ApiError(404, "notFound", f"The resource 'images/{name}' was not found")
        return self._cloud.once(call, "delete", f"images/{name}", lambda: self.kept.pop(name))

    def _template(self, name: str) -> Json:
        """One that was made, or that of a group as its owner made it."""
        if name in self.templates:
            return self.templates[name]
        if name not in self._cloud.migs:
            raise ApiError(404, "notFound", f"The resource 'instanceTemplates/{name}' was not found")
        allowed = self._cloud.migs[name].guest_attributes
        items = [{"key": "enable-guest-attributes", "value": "TRUE"}] if allowed else []
        subnet = f"projects/{self._cloud.project}/regions/europe-west1/subnetworks/nodes"
        disks = [{"boot": True, "initializeParams": {"sourceImage": _STOCK, "diskSizeGb": "50"}}]
        return {
            "name": name,
            "properties": {"metadata": {"items": items}, "disks": disks, "networkInterfaces": [{"subnetwork": subnet}]},
        }

    def _get_template(self, call: Call) -> Answer:
        return Answer(self._template(call.parts["name"]))

    def _insert_template(self, call: Call) -> Answer:
        name = call.body["name"]
        if name in self.templates:
            raise ApiError(409, "alreadyExists", f"The resource 'instanceTemplates/{name}' already exists")
        target = f"instanceTemplates/{name}"
        return self._cloud.once(call, "insert", target, lambda: self.templates.update({name: call.body}))

    def _delete_template(self, call: Call) -> Answer:
        name = call.parts["name"]
        if any((g.template or g.name) == name for g in self._cloud.migs.values()):
            raise ApiError(400, "resourceInUseByAnotherResource", f"The template {name} is in use")
        if name not in self.templates:
            raise ApiError(404, "notFound", f"The resource 'instanceTemplates/{name}' was not found")
        return self._cloud.once(call, "delete", f"instanceTemplates/{name}", lambda: self.templates.pop(name))
