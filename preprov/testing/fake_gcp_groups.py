"""Managed instance groups of the fake Compute Engine, and their resize requests.

What a call sets off takes longer than its operation; lacks of machines and of quota show in the group's list of members
only, as they do in the real one.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from preprov.model.offerings import Standby
from preprov.testing.fake_cloud import Answer, ApiError, Call, Json
from preprov.testing.fake_gcp_parts import (
    COUNTED,
    GONE,
    MAKING,
    NOTES,
    VERBS,
    FakeMig,
    FakeResize,
    Verb,
    counts_of,
    notes_of,
)
from preprov.testing.fake_machines import FakeMachine

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp

_DOES: Final = {
    "SUSPENDING": "suspend",
    "STOPPING": "stop",
    "RESUMING": "resume",
    "STARTING": "start",
    "DELETING": "delete",
}
"""What a group does to its members -> the operation that this is on each of them."""


class FakeGcpGroups:
    """Those of the zone."""

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud

    def routes(self) -> tuple[tuple[str, str, Any, str], ...]:
        """Method, path below the project, handler, right."""
        mig = f"/zones/{self._cloud.zone}/instanceGroupManagers/{{mig}}"
        return (
            ("GET", mig, self._get_mig, "instanceGroupManagers.get"),
            ("PATCH", mig, self._patch_mig, "instanceGroupManagers.update"),
            ("POST", f"{mig}/listManagedInstances", self._list_members, "instanceGroupManagers.get"),
            ("POST", f"{mig}/createInstances", self._create, "instanceGroupManagers.update"),
            *(("POST", f"{mig}/{verb}", self._verb, "instanceGroupManagers.update") for verb in VERBS),
            ("POST", f"{mig}/resizeRequests", self._ask, "instanceGroupManagers.update"),
            ("GET", f"{mig}/resizeRequests/{{name}}", self._get_request, "instanceGroupManagers.get"),
            ("POST", f"{mig}/resizeRequests/{{name}}/cancel", self._cancel, "instanceGroupManagers.update"),
        )

    # ---- groups

    def _mig(self, call: Call) -> FakeMig:
        """The group of a call, with members that are gone taken out."""
        found = self._cloud.migs.get(call.parts["mig"])
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'instanceGroupManagers/{call.parts['mig']}' was not found")
        now = self._cloud.clock.now()
        found.members = {n: m for n, m in found.members.items() if m.status(now) != GONE}
        return found

    def _get_mig(self, call: Call) -> Answer:
        g = self._mig(call)
        counts = counts_of(g)
        return Answer(
            {
                "name": g.name,
                "baseInstanceName": g.base,
                "selfLink": self._cloud.link(f"instanceGroupManagers/{g.name}"),
                "instanceTemplate": f"projects/{self._cloud.project}/global/instanceTemplates/{g.template or g.name}",
                "targetSize": counts["target_size"],
                "targetSuspendedSize": counts["target_suspended_size"],
                "targetStoppedSize": counts["target_stopped_size"],
                "standbyPolicy": {"initialDelaySec": g.initial_delay_s, "mode": g.standby_mode},
                "status": {"isStable": True, **({"autoscaler": g.autoscaler} if g.autoscaler else {})},
            }
        )

    def _patch_mig(self, call: Call) -> Answer:
        names = {"targetSize": "target_size", "targetSuspendedSize": "target_suspended_size"}
        names["targetStoppedSize"] = "target_stopped_size"
        g = self._mig(call)

        def change() -> None:
            g.template = call.body.get("instanceTemplate", g.template).rsplit("/", 1)[-1]
            policy = call.body.get("standbyPolicy", {})
            g.initial_delay_s = int(policy.get("initialDelaySec", g.initial_delay_s))
            g.standby_mode = policy.get("mode", g.standby_mode)
            for wire, name in names.items():
                if wire in call.body:
                    self._size(g, name, int(call.body[wire]))

        return self._cloud.once(call, "patch", f"instanceGroupManagers/{g.name}", change)

    def _size(self, g: FakeMig, name: str, wanted: int) -> None:
        """More of a state are made by the group, fewer are ended, of its own choice."""
        there = [m for m in g.members.values() if m.aim == COUNTED[name] and not m.error]
        now = self._cloud.clock.now()
        for m in there[: max(len(there) - wanted, 0)]:
            m.follow(now, "DELETING", VERBS["deleteInstances"].steps)
        for _ in range(wanted - len(there)):
            g.serial += 1
            m = self._make(g, f"{g.base}-{g.serial:04d}", {})
            if name != "target_size":
                m.follow(now, "CREATING", (*MAKING, (40.0, "STOPPING"), (55.0, COUNTED[name])))
                m.sleeps(now + timedelta(seconds=40))

    def _list_members(self, call: Call) -> Answer:
        now = self._cloud.clock.now()
        members = [self._member(m, now) for m in self._mig(call).members.values()]
        return Answer({"managedInstances": members})

    def _member(self, m: FakeMachine, now: datetime) -> Json:
        status = m.status(now)
        out: Json = {
            "instance": self._cloud.link(f"instances/{m.name}"),
            "name": m.name,
            "currentAction": m.action if m.moving(now) else "NONE",
            "preservedStateFromConfig": {"metadata": {NOTES: json.dumps(m.notes)}} if m.notes else {},
        }
        if status:
            out["instanceStatus"] = status
        if m.error:
            out["lastAttempt"] = {"errors": {"errors": [{"code": m.error, "message": f"{m.machine_type}: {m.error}"}]}}
        return out

    def _create(self, call: Call) -> Answer:
        g = self._mig(call)
        asked = call.body.get("instances", [])

        def change() -> None:
            taken = [i["name"] for i in asked if i["name"] in g.members]
            if taken:
                raise ApiError(400, "invalid", f"instances {', '.join(taken)} already exist")
            for i in asked:
                self._make(g, i["name"], notes_of(i))

        return self._cloud.once(call, "createInstances", f"instanceGroupManagers/{g.name}", change)

    def _make(self, g: FakeMig, name: str, notes: dict[str, str]) -> FakeMachine:
        cloud, now = self._cloud, self._cloud.clock.now()
        m = FakeMachine(name, g.machine_type, cloud.zone, now, g.spot, notes=notes)
        m.address, m.posted, m.lead_s = cloud.agents.next_address(), {} if cloud.agents.real else None, cloud.lead_s
        m.action, m.error = "CREATING", self._lack(g)
        cloud.operations.begin("insert", f"instances/{name}", MAKING[-1][0], error=m.error)
        if not m.error:
            m.follow(now, "CREATING", MAKING)
            m.boots(Standby.COLD, MAKING[-1][0], now, "checksum differs" if cloud.spoiled and notes else "")
        g.members[name] = m
        return m

    def _lack(self, g: FakeMig) -> str:
        """Why a machine cannot be had now; "" if it can."""
        if g.machine_type in self._cloud.faults.short:
            return "ZONE_RESOURCE_POOL_EXHAUSTED"
        there = sum(not m.error for x in self._cloud.migs.values() for m in x.members.values())
        return "QUOTA_EXCEEDED" if self._cloud.faults.quota is not None and there >= self._cloud.faults.quota else ""

    def _verb(self, call: Call) -> Answer:
        g, name = self._mig(call), call.path.rsplit("/", 1)[-1]
        verb = VERBS[name]
        names = [str(i).rsplit("/", 1)[-1] for i in call.body.get("instances", [])]
        known = self._fit(g, verb, names, skip=bool(call.body.get("skipInstancesOnValidationError")))
        return self._cloud.once(call, name, f"instanceGroupManagers/{g.name}", lambda: self._apply(g, verb, known))

    def _fit(self, g: FakeMig, verb: Verb, names: Sequence[str], *, skip: bool) -> list[str]:
        foreign = [n for n in names if n not in g.members or g.members[n].aim == GONE]
        if foreign and not skip:
            raise ApiError(400, "invalid", f"instances {', '.join(foreign)} are not members of the group")
        known = [n for n in names if n not in foreign]
        wrong = [n for n in known if verb.needs and g.members[n].aim != verb.needs]
        if wrong:
            raise ApiError(400, "invalid", f"instances {', '.join(wrong)} are not {verb.needs}")
        return known

    def _apply(self, g: FakeMig, verb: Verb, names: Sequence[str]) -> None:
        now = self._cloud.clock.now()
        for n in names:
            m = g.members[n]
            if m.error and not m.timeline:
                del g.members[n]
                continue
            wakes = verb.action in ("RESUMING", "STARTING")
            kind, over_s = _DOES[verb.action], verb.steps[-1][0]
            m.error = "ZONE_RESOURCE_POOL_EXHAUSTED" if wakes and g.machine_type in self._cloud.faults.short else ""
            self._cloud.operations.begin(kind, f"instances/{n}", over_s, error=m.error)
            if m.error:
                m.action = verb.action
                continue
            m.follow(now, verb.action, verb.steps)
            if wakes:
                came_from = Standby.HIBERNATED if verb.action == "RESUMING" else Standby.STOPPED
                m.boots(came_from, verb.steps[-1][0], now)
            else:
                m.sleeps(now + timedelta(seconds=verb.steps[0][0]))

    # ---- resize requests

    def _ask(self, call: Call) -> Answer:
        g, name = self._mig(call), call.body["name"]

        def change() -> None:
            if name in g.requests:
                raise ApiError(409, "alreadyExists", f"The resource 'resizeRequests/{name}' already exists")
            g.requests[name] = FakeResize(call.body.get("instances", []))

        return self._cloud.once(call, "insert", f"instanceGroupManagers/{g.name}/resizeRequests/{name}", change)

    def _request(self, call: Call) -> tuple[FakeMig, FakeResize]:
        """A request as it is now: granted as soon as all its machines can be had."""
        g = self._mig(call)
        found = g.requests.get(call.parts["name"])
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'resizeRequests/{call.parts['name']}' was not found")
        if found.state == "ACCEPTED" and not self._lack(g):
            found.state = "CREATING"
            for i in found.instances:
                self._make(g, i["name"], notes_of(i))
        return g, found

    def _get_request(self, call: Call) -> Answer:
        g, found = self._request(call)
        body: Json = {"name": call.parts["name"], "state": found.state, "resizeBy": len(found.instances)}
        if found.state == "ACCEPTED":
            errors = [{"code": self._lack(g), "message": "waiting for machines"}]
            body["status"] = {"lastAttempt": {"error": {"errors": errors}}}
        return Answer(body)

    def _cancel(self, call: Call) -> Answer:
        g, found = self._request(call)

        def change() -> None:
            if found.state != "ACCEPTED":
                raise ApiError(409, "resourceNotReady", f"the request is {found.state}")
            found.state = "CANCELLED"

        return self._cloud.once(call, "cancel", f"instanceGroupManagers/{g.name}", change)
