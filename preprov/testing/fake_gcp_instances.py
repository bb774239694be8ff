"""Instances of the fake Compute Engine: listed as they were, with metadata and guest attributes."""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from preprov.model.notes import PREFIX
from preprov.testing.fake_cloud import Answer, ApiError, Call, Json
from preprov.testing.fake_gcp_parts import GONE, NOTES
from preprov.testing.fake_machines import FakeMachine

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp


class FakeGcpInstances:
    """Those of the zone."""

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud

    def routes(self) -> tuple[tuple[str, str, Any, str], ...]:
        """Method, path below the project, handler, right."""
        every = f"/zones/{self._cloud.zone}/instances"
        one = f"{every}/{{instance}}"
        return (
            ("GET", every, self._list_instances, "instances.list"),
            ("GET", one, self._get_instance, "instances.get"),
            ("GET", f"{one}/getGuestAttributes", self._guest, "instances.getGuestAttributes"),
            ("POST", f"{one}/setMetadata", self._set_metadata, "instances.setMetadata"),
        )

    def _vm(self, call: Call) -> FakeMachine:
        name, now = call.parts["instance"], self._cloud.clock.now()
        for g in self._cloud.migs.values():
            m = g.members.get(name)
            if m is not None and m.status(now) not in ("", GONE):
                return m
        raise ApiError(404, "notFound", f"The resource 'instances/{name}' was not found")

    def _instance(self, m: FakeMachine, at: datetime) -> Json:
        items = [{"key": NOTES, "value": json.dumps(m.notes)}] if m.notes else []
        stamps = {
            "RUNNING": "lastStartTimestamp",
            "SUSPENDED": "lastSuspendedTimestamp",
            "TERMINATED": "lastStopTimestamp",
        }
        times = {stamps[s]: t.isoformat() for t, s in m.timeline if s in stamps and t <= at}
        return {
            "name": m.name,
            "status": m.status(at),
            "selfLink": self._cloud.link(f"instances/{m.name}"),
            "zone": self._cloud.link(""),
            "machineType": self._cloud.link(f"machineTypes/{m.machine_type}"),
            "creationTimestamp": m.created_at.isoformat(),
            "scheduling": {"provisioningModel": "SPOT" if m.spot else "STANDARD"},
            "metadata": {"items": items, "fingerprint": f"g{m.generation}"},
            "networkInterfaces": [{"networkIP": m.address}],
            "disks": [{"boot": True, "source": self._cloud.link(f"disks/{m.name}")}],
            **times,
        }

    def _get_instance(self, call: Call) -> Answer:
        return Answer(self._instance(self._vm(call), self._cloud.clock.now()))

    def _list_instances(self, call: Call) -> Answer:
        """As it was some time ago, if listings lag."""
        at = self._cloud.clock.now() - timedelta(seconds=self._cloud.faults.lag_s)
        base = call.query.get("filter", "").removeprefix("name eq ").removesuffix(".*")
        found = [m for g in self._cloud.migs.values() for m in g.members.values() if m.name.startswith(base)]
        there = [self._instance(m, at) for m in found if m.status(at) not in ("", GONE)]
        start = int(call.query.get("pageToken", "0"))
        size = int(call.query.get("maxResults", "500"))
        more = {"nextPageToken": str(start + size)} if start + size < len(there) else {}
        return Answer({"items": there[start : start + size], **more})

    def _guest(self, call: Call) -> Answer:
        found = self._vm(call).noted(self._cloud.clock.now())
        if not found:
            raise ApiError(404, "notFound", "no guest attributes")
        space = PREFIX.rstrip(":")
        items = [{"namespace": space, "key": k.removeprefix(PREFIX), "value": v} for k, v in found.items()]
        return Answer({"queryPath": call.query.get("queryPath", ""), "queryValue": {"items": items}})

    def _set_metadata(self, call: Call) -> Answer:
        m = self._vm(call)

        def change() -> None:
            if call.body.get("fingerprint") != f"g{m.generation}":
                raise ApiError(
                    412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint"
                )
            values = {i["key"]: i.get("value", "") for i in call.body.get("items", [])}
            m.notes = json.loads(values.get(NOTES, "{}"))
            m.generation += 1

        return self._cloud.once(call, "setMetadata", f"instances/{m.name}", change)
