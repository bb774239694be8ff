"""Compute galleries of the fake Azure: a version is made from a deallocated machine, and takes its time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from preprov.testing.fake_cloud import Answer, ApiError, Call, Json

if TYPE_CHECKING:
    from preprov.testing.fake_azure import FakeAzure


@dataclass
class _Version:
    body: Json
    made_at: datetime
    ready_at: datetime
    fails: bool


class FakeGallery:
    """All versions of all images, by path.

    Attributes:
        takes_s: from the call until machines can be made from one. fails: those that are made from now on.
    """

    def __init__(self, cloud: "FakeAzure") -> None:
        self._cloud = cloud
        self.takes_s = 600.0
        self.fails = False
        self.kept: dict[str, _Version] = {}

    def routes(self, versions: str) -> tuple[tuple[str, str, Callable[[Call], Answer], str], ...]:
        """Method, path, handler, right."""
        one, right = f"{versions}/{{version}}", "Microsoft.Compute/galleries/images/versions"
        return (
            ("GET", versions, self._list, f"{right}/read"),
            ("PUT", one, self._put, f"{right}/write"),
            ("DELETE", one, self._delete, f"{right}/delete"),
        )

    def _body(self, path: str, v: _Version) -> Json:
        state = "Creating" if self._cloud.clock.now() < v.ready_at else "Failed" if v.fails else "Succeeded"
        properties = v.body["properties"]
        published = {**properties["publishingProfile"], "publishedDate": v.made_at.isoformat()}
        told = {**properties, "publishingProfile": published, "provisioningState": state}
        return {**v.body, "id": path, "name": path.rsplit("/", 1)[-1], "properties": told}

    def _list(self, call: Call) -> Answer:
        return Answer({"value": [self._body(p, v) for p, v in self.kept.items() if p.startswith(f"{call.path}/")]})

    def _put(self, call: Call) -> Answer:
        now = self._cloud.clock.now()
        source = call.body["properties"]["storageProfile"]["source"]["virtualMachineId"].rsplit("/", 1)[-1]
        if self._cloud.machine(source).status(now) != "deallocated":
            raise ApiError(409, "OperationNotAllowed", f"{source} is not generalized")
        if call.path not in self.kept:
            self.kept[call.path] = _Version(call.body, now, now + timedelta(seconds=self.takes_s), self.fails)
        return Answer(self._body(call.path, self.kept[call.path]), 201, self._cloud.begin(self.takes_s))

    def _delete(self, call: Call) -> Answer:
        self.kept.pop(call.path, None)
        return Answer(None, 202, self._cloud.begin(30))
