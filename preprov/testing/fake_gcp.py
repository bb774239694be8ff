"""Compute Engine as `google-cloud-compute` sees it: a zonal managed instance group whose machines take their time.

Operations are over some seconds after the call (whoever waits for one lets that time pass); what they set off takes
longer, and lacks of machines and of quota show in the group's list of members only, as they do in the real one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import Clock
from preprov.model.notes import PREFIX
from preprov.model.pools import Standby
from preprov.testing.agents import Agents
from preprov.testing.fake_cloud import Answer, ApiError, Call, FakeCloud, Json, Route
from preprov.testing.fake_gcp_account import FakeGcpAccount
from preprov.testing.fake_gcp_images import FakeGcpImages
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
from preprov.testing.fake_metadata import GcpMetadata, Vm

_OPERATION_S: Final = 2.0


@dataclass
class _Operation:
    body: Json
    over_at: datetime


class FakeGcp(FakeCloud):
    """The server of one project's zone.

    Attributes:
        spoiled: checks of machines that are made from now on fail.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        project: str = "acme",
        zone: str = "europe-west1-b",
        agents: Agents | None = None,
    ) -> None:
        super().__init__(clock, agents)
        self.metadata: GcpMetadata = GcpMetadata(self._shown_to_itself)
        self.project, self.zone = project, zone
        self.migs: dict[str, FakeMig] = {}
        self.spoiled = False
        self.account = FakeGcpAccount(self)
        self.images = FakeGcpImages(self)
        self._operations: dict[str, _Operation] = {}
        self._requests: dict[str, tuple[datetime, Json]] = {}

    # ---- what a test does

    def add(self, name: str, machine_type: str, *, spot: bool = False) -> FakeMig:
        """A group with no machines."""
        self.migs[name] = FakeMig(name, f"{name}-vm", machine_type, spot)
        return self.migs[name]

    def machine(self, name: str) -> FakeMachine:
        """A machine of any group.

        Raises:
            KeyError: there is none.
        """
        return next(m for g in self.migs.values() for n, m in g.members.items() if n == name)

    def preempt(self, name: str) -> None:
        """Take a machine away, as the zone does with spot machines."""
        now, m = self.clock.now(), self.machine(name)
        m.follow(now, "DELETING", ((0, "STOPPING"), (30, GONE)))
        m.sleeps(now)
        self._operation("compute.instances.preempted", f"instances/{name}", over_s=0)

    # ---- agents

    kind, running = "gcp", "RUNNING"

    def residents(self) -> list[FakeMachine]:
        """As the base says."""
        now = self.clock.now()
        return [m for g in self.migs.values() for m in g.members.values() if m.status(now) not in ("", GONE)]

    def _shown_to_itself(self, name: str) -> Vm | None:
        with self.lock:
            m = self.awake(name)
            if m is None:
                return None
            allowed = all(g.guest_attributes for g in self.migs.values() if name in g.members)
            posted = m.posted if m.posted is not None else {}
            return Vm(name, m.machine_type, self.zone, m.address, dict(m.notes), posted, m.notice, allowed=allowed)

    # ---- routes

    def routes(self) -> tuple[Route, ...]:
        """The part of the API that is served."""
        zone, root = f"/zones/{self.zone}", f"/compute/v1/projects/{self.project}"
        mig, vm = f"{zone}/instanceGroupManagers/{{mig}}", f"{zone}/instances/{{instance}}"
        table: tuple[tuple[str, str, Any, str], ...] = (
            ("GET", mig, self._get_mig, "instanceGroupManagers.get"),
            ("PATCH", mig, self._patch_mig, "instanceGroupManagers.update"),
            ("POST", f"{mig}/listManagedInstances", self._list_members, "instanceGroupManagers.get"),
            ("POST", f"{mig}/createInstances", self._create, "instanceGroupManagers.update"),
            *(("POST", f"{mig}/{verb}", self._verb, "instanceGroupManagers.update") for verb in VERBS),
            ("POST", f"{mig}/resizeRequests", self._ask, "instanceGroupManagers.update"),
            ("GET", f"{mig}/resizeRequests/{{name}}", self._get_request, "instanceGroupManagers.get"),
            ("POST", f"{mig}/resizeRequests/{{name}}/cancel", self._cancel, "instanceGroupManagers.update"),
            ("GET", f"{zone}/instances", self._list_instances, "instances.list"),
            ("GET", vm, self._get_instance, "instances.get"),
            ("GET", f"{vm}/getGuestAttributes", self._guest, "instances.getGuestAttributes"),
            ("POST", f"{vm}/setMetadata", self._set_metadata, "instances.setMetadata"),
            ("GET", f"{zone}/operations", self._list_operations, "zoneOperations.list"),
            ("GET", f"{zone}/operations/{{name}}", self._get_operation, "zoneOperations.get"),
            ("POST", f"{zone}/operations/{{name}}/wait", self._wait, "zoneOperations.get"),
            *self.images.routes(),
            ("GET", "/global/operations/{name}", self._get_operation, "globalOperations.get"),
            ("POST", "/global/operations/{name}/wait", self._wait, "globalOperations.get"),
            *self.account.routes(),
        )
        below = (Route(m, f"{root}{p}", h, f"compute.{r}") for m, p, h, r in table)
        return (self.account.rights(), self.account.catalogue(), *below)

    def error_body(self, error: ApiError) -> Json:
        """In Google's form."""
        reason = error.code
        return {
            "error": {
                "code": error.status,
                "message": str(error),
                "errors": [{"message": str(error), "domain": "global", "reason": reason}],
            }
        }

    # ---- groups

    def _mig(self, call: Call) -> FakeMig:
        """The group of a call, with members that are gone taken out."""
        found = self.migs.get(call.parts["mig"])
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'instanceGroupManagers/{call.parts['mig']}' was not found")
        now = self.clock.now()
        found.members = {n: m for n, m in found.members.items() if m.status(now) != GONE}
        return found

    def _get_mig(self, call: Call) -> Answer:
        g = self._mig(call)
        counts = counts_of(g)
        return Answer(
            {
                "name": g.name,
                "baseInstanceName": g.base,
                "selfLink": self._link(f"instanceGroupManagers/{g.name}"),
                "instanceTemplate": f"projects/{self.project}/global/instanceTemplates/{g.template or g.name}",
                "targetSize": counts["target_size"],
                "targetSuspendedSize": counts["target_suspended_size"],
                "targetStoppedSize": counts["target_stopped_size"],
                "standbyPolicy": {"initialDelaySec": g.initial_delay_s, "mode": "MANUAL"},
                "status": {"isStable": True, **({"autoscaler": g.autoscaler} if g.autoscaler else {})},
            }
        )

    def _patch_mig(self, call: Call) -> Answer:
        names = {"targetSize": "target_size", "targetSuspendedSize": "target_suspended_size"}
        names["targetStoppedSize"] = "target_stopped_size"
        g = self._mig(call)

        def change() -> None:
            g.template = call.body.get("instanceTemplate", g.template).rsplit("/", 1)[-1]
            for wire, name in names.items():
                if wire in call.body:
                    self._size(g, name, int(call.body[wire]))

        return self.once(call, "patch", f"instanceGroupManagers/{g.name}", change)

    def _size(self, g: FakeMig, name: str, wanted: int) -> None:
        """More of a state are made by the group, fewer are ended, of its own choice."""
        there = [m for m in g.members.values() if m.aim == COUNTED[name] and not m.error]
        now = self.clock.now()
        for m in there[: max(len(there) - wanted, 0)]:
            m.follow(now, "DELETING", VERBS["deleteInstances"].steps)
        for _ in range(wanted - len(there)):
            g.serial += 1
            m = self._make(g, f"{g.base}-{g.serial:04d}", {})
            if name != "target_size":
                m.follow(now, "CREATING", (*MAKING, (40.0, "STOPPING"), (55.0, COUNTED[name])))
                m.sleeps(now + timedelta(seconds=40))

    def _list_members(self, call: Call) -> Answer:
        now = self.clock.now()
        members = [self._member(m, now) for m in self._mig(call).members.values()]
        return Answer({"managedInstances": members})

    def _member(self, m: FakeMachine, now: datetime) -> Json:
        status = m.status(now)
        out: Json = {
            "instance": self._link(f"instances/{m.name}"),
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

        return self.once(call, "createInstances", f"instanceGroupManagers/{g.name}", change)

    def _make(self, g: FakeMig, name: str, notes: dict[str, str]) -> FakeMachine:
        now = self.clock.now()
        m = FakeMachine(name, g.machine_type, self.zone, now, g.spot, notes=notes)
        m.address, m.posted, m.lead_s = self.agents.next_address(), {} if self.agents.real else None, self.lead_s
        m.action, m.error = "CREATING", self._lack(g)
        if not m.error:
            m.follow(now, "CREATING", MAKING)
            m.boots(Standby.COLD, MAKING[-1][0], now, "checksum differs" if self.spoiled and notes else "")
        g.members[name] = m
        return m

    def _lack(self, g: FakeMig) -> str:
        """Why a machine cannot be had now; "" if it can."""
        if g.machine_type in self.faults.short:
            return "ZONE_RESOURCE_POOL_EXHAUSTED"
        there = sum(not m.error for x in self.migs.values() for m in x.members.values())
        return "QUOTA_EXCEEDED" if self.faults.quota is not None and there >= self.faults.quota else ""

    def _verb(self, call: Call) -> Answer:
        g, name = self._mig(call), call.path.rsplit("/", 1)[-1]
        verb = VERBS[name]
        names = [str(i).rsplit("/", 1)[-1] for i in call.body.get("instances", [])]
        known = self._fit(g, verb, names, skip=bool(call.body.get("skipInstancesOnValidationError")))
        return self.once(call, name, f"instanceGroupManagers/{g.name}", lambda: self._apply(g, verb, known))

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
        now = self.clock.now()
        for n in names:
            m = g.members[n]
            if m.error and not m.timeline:
                del g.members[n]
                continue
            wakes = verb.action in ("RESUMING", "STARTING")
            m.error = "ZONE_RESOURCE_POOL_EXHAUSTED" if wakes and g.machine_type in self.faults.short else ""
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

        return self.once(call, "insert", f"instanceGroupManagers/{g.name}/resizeRequests/{name}", change)

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

        return self.once(call, "cancel", f"instanceGroupManagers/{g.name}", change)

    # ---- instances

    def _vm(self, call: Call) -> FakeMachine:
        name, now = call.parts["instance"], self.clock.now()
        for g in self.migs.values():
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
            "selfLink": self._link(f"instances/{m.name}"),
            "zone": f"{self.url}/compute/v1/projects/{self.project}/zones/{self.zone}",
            "machineType": self._link(f"machineTypes/{m.machine_type}"),
            "creationTimestamp": m.created_at.isoformat(),
            "scheduling": {"provisioningModel": "SPOT" if m.spot else "STANDARD"},
            "metadata": {"items": items, "fingerprint": f"g{m.generation}"},
            "networkInterfaces": [{"networkIP": m.address}],
            "disks": [{"boot": True, "source": self._link(f"disks/{m.name}")}],
            **times,
        }

    def _get_instance(self, call: Call) -> Answer:
        return Answer(self._instance(self._vm(call), self.clock.now()))

    def _list_instances(self, call: Call) -> Answer:
        """As it was some time ago, if listings lag."""
        at = self.clock.now() - timedelta(seconds=self.faults.lag_s)
        base = call.query.get("filter", "").removeprefix("name eq ").removesuffix(".*")
        found = [m for g in self.migs.values() for m in g.members.values() if m.name.startswith(base)]
        there = [self._instance(m, at) for m in found if m.status(at) not in ("", GONE)]
        start = int(call.query.get("pageToken", "0"))
        size = int(call.query.get("maxResults", "500"))
        more = {"nextPageToken": str(start + size)} if start + size < len(there) else {}
        return Answer({"items": there[start : start + size], **more})

    def _guest(self, call: Call) -> Answer:
        found = self._vm(call).noted(self.clock.now())
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

        return self.once(call, "setMetadata", f"instances/{m.name}", change)

    # ---- the rest

    def once(self, call: Call, kind: str, target: str, change: Any) -> Answer:
        """Do it and answer with its operation; sent again under the same request id, answer with that one."""
        key, now = call.query.get("requestId", ""), self.clock.now()
        known = self._requests.get(key)
        if key and known is not None and now - known[0] < timedelta(hours=1):
            return Answer(known[1])
        change()
        body = self._operation(kind, target)
        if key:
            self._requests[key] = (now, body)
        return Answer(body)

    def _operation(self, kind: str, target: str, over_s: float = _OPERATION_S) -> Json:
        now = self.clock.now()
        name = f"operation-{len(self._operations):06d}"
        body = {
            "name": name,
            "operationType": kind,
            "status": "RUNNING",
            "progress": 0,
            "insertTime": now.isoformat(),
            "zone": f"{self.url}/compute/v1/projects/{self.project}/zones/{self.zone}",
            "targetLink": self._link(target),
            "selfLink": self._link(f"operations/{name}"),
        }
        self._operations[name] = _Operation(body, now + timedelta(seconds=over_s))
        return body

    def _shown(self, name: str) -> Json:
        found = self._operations.get(name)
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'operations/{name}' was not found")
        over = found.over_at <= self.clock.now()
        return {**found.body, "status": "DONE" if over else "RUNNING", "progress": 100 if over else 0}

    def _get_operation(self, call: Call) -> Answer:
        return Answer(self._shown(call.parts["name"]))

    def _wait(self, call: Call) -> Answer:
        found = self._operations.get(call.parts["name"])
        if found is not None and found.over_at > self.clock.now():
            self.let_pass((found.over_at - self.clock.now()).total_seconds())
        return Answer(self._shown(call.parts["name"]))

    def _list_operations(self, call: Call) -> Answer:
        wanted = call.query.get("filter", "")
        found = [self._shown(n) for n, o in self._operations.items() if f'"{o.body["operationType"]}"' in wanted]
        return Answer({"items": found})

    def _link(self, resource: str) -> str:
        return f"{self.url}/compute/v1/projects/{self.project}/zones/{self.zone}/{resource}"
