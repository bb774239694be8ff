"""Azure Resource Manager as its SDKs see it: a flexible scale set and a standby pool whose machines take their time.

Long-running operations answer with Azure-AsyncOperation; whoever looks at one lets a few seconds pass. Machines that
cannot be had fail the operation after it was accepted, and stay behind as failed machines, as they do in the real one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import Clock
from preprov.model.notes import NOTICE, REPORT
from preprov.model.offerings import Standby
from preprov.testing.agents import Agents
from preprov.testing.fake_azure_account import FakeAzureAccount
from preprov.testing.fake_azure_gallery import FakeGallery
from preprov.testing.fake_azure_parts import FakeStandbyPool, FakeVmss, match, model_of, since
from preprov.testing.fake_cloud import Answer, ApiError, Call, FakeCloud, Json, Route
from preprov.testing.fake_machines import FakeMachine
from preprov.testing.fake_metadata import AzureMetadata, Vm

_GONE: Final = "gone"
_TAGS: Final = "/providers/Microsoft.Resources/tags/default"
_LOOK_S: Final = 5.0
_MAKING: Final = ((0.0, "creating"), (25.0, "running"))
_BACK: Final[Mapping[str, Standby]] = {"deallocated": Standby.STOPPED, "hibernated": Standby.HIBERNATED}
_POOLED: Final = {"Running": "running", "Deallocated": "deallocated", "Hibernated": "hibernated"}


@dataclass(frozen=True)
class _Operation:
    over_at: datetime
    error: str = ""


class FakeAzure(FakeCloud):
    """The server of one resource group.

    Attributes:
        spoiled: checks of machines that are made from now on fail.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        subscription: str = "sub-1",
        resource_group: str = "night",
        agents: Agents | None = None,
    ) -> None:
        super().__init__(clock, agents)
        self.metadata: AzureMetadata = AzureMetadata(self._shown_to_itself)
        self.subscription, self.resource_group = subscription, resource_group
        self.sets: dict[str, FakeVmss] = {}
        self.spoiled = False
        self.account = FakeAzureAccount(self)
        self.gallery = FakeGallery(self)
        self._operations: dict[str, _Operation] = {}
        self._changed: dict[str, datetime] = {}
        """Machine -> when it was written to last: its provisioning was over anew then, as with the real one."""

    # ---- what a test does

    def add(self, name: str, size: str, *, spot: bool = False, standby: str = "") -> FakeVmss:
        """A scale set with no machines; `standby`: state of its standby pool "<name>-standby", "" = it has none."""
        pool = FakeStandbyPool(f"{name}-standby", standby) if standby else None
        self.sets[name] = FakeVmss(name, size, spot=spot, standby=pool)
        return self.sets[name]

    def machine(self, name: str) -> FakeMachine:
        """A machine of any scale set.

        Raises:
            KeyError: there is none.
        """
        for g in self.sets.values():
            waiting = g.standby.members if g.standby else {}
            if name in g.members or name in waiting:
                return g.members.get(name) or waiting[name]
        raise KeyError(name)

    def evict(self, name: str) -> None:
        """Take a spot machine away."""
        now, m = self.clock.now(), self.machine(name)
        m.follow(now, "evict", ((30, "deleting"), (40, _GONE)))
        m.sleeps(now + timedelta(seconds=30))

    # ---- agents

    def is_of_an_agent(self, path: str) -> bool:
        """As the base says."""
        return path.endswith(_TAGS)

    kind, running = "azure", "running"

    def residents(self) -> list[FakeMachine]:
        """As the base says."""
        self._sweep()
        now = self.clock.now()
        pooled = [m for g in self.sets.values() if g.standby for m in g.standby.members.values()]
        there = [m for g in self.sets.values() for m in g.members.values()] + pooled
        return [m for m in there if m.status(now) not in ("", "deleting", "failed", _GONE)]

    def _shown_to_itself(self, name: str) -> Vm | None:
        with self.lock:
            m = self.awake(name)
            if m is None:
                return None
            pooled = any(name in g.standby.members for g in self.sets.values() if g.standby)
            where = f"{self._root}/Microsoft.Compute/virtualMachines/{name}"
            notes = dict(m.notes)
            return Vm(name, m.machine_type, "", m.address, notes, {}, m.notice, standby=pooled, resource_id=where)

    # ---- routes

    @property
    def _root(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}/providers"

    def routes(self) -> tuple[Route, ...]:
        """The part of the API that is served."""
        compute, here = f"{self._root}/Microsoft.Compute", f"/subscriptions/{self.subscription}/providers"
        vmss, vm = f"{compute}/virtualMachineScaleSets/{{vmss}}", f"{compute}/virtualMachines/{{vm}}"
        pool = f"{self._root}/Microsoft.StandbyPool/standbyVirtualMachinePools/{{pool}}"
        sets, vms = "Microsoft.Compute/virtualMachineScaleSets", "Microsoft.Compute/virtualMachines"
        pools = "Microsoft.StandbyPool/standbyVirtualMachinePools"
        table: tuple[tuple[str, str, Callable[[Call], Answer], str], ...] = (
            ("GET", vmss, self._get_set, f"{sets}/read"),
            ("PATCH", vmss, self._patch_set, f"{sets}/write"),
            ("POST", f"{vmss}/delete", self._delete, f"{sets}/delete/action"),
            ("GET", f"{compute}/virtualMachines", self._list, f"{vms}/read"),
            ("GET", vm, self._get_vm, f"{vms}/read"),
            ("PATCH", vm, self._patch_vm, f"{vms}/write"),
            ("PATCH", f"{vm}{_TAGS}", self._merge_tags, "Microsoft.Resources/tags/write"),
            ("POST", f"{vm}/deallocate", self._deallocate, f"{vms}/deallocate/action"),
            ("POST", f"{vm}/start", self._start, f"{vms}/start/action"),
            ("GET", pool, self._get_pool, f"{pools}/read"),
            ("PATCH", pool, self._patch_pool, f"{pools}/write"),
            ("GET", f"{pool}/standbyVirtualMachines", self._list_pool, f"{pools}/standbyVirtualMachines/read"),
            ("GET", f"{pool}/runtimeViews/latest", self._view_pool, f"{pools}/runtimeViews/read"),
            *self.gallery.routes(f"{compute}/galleries/{{gallery}}/images/{{image}}/versions"),
            ("POST", f"{vm}/generalize", self._generalize, f"{vms}/generalize/action"),
            *self.account.routes(self._root, here),
            ("GET", f"{here}/operations/{{name}}", self._look, "Microsoft.Compute/locations/operations/read"),
        )
        return tuple(Route(*row) for row in table)

    def error_body(self, error: ApiError) -> Json:
        """In Azure's form."""
        return {"error": {"code": error.code, "message": str(error)}}

    # ---- scale sets

    def _set(self, call: Call) -> FakeVmss:
        found = self.sets.get(call.parts["vmss"])
        if found is None:
            raise ApiError(404, "ResourceNotFound", f"The resource {call.parts['vmss']} was not found")
        self._sweep()
        return found

    def _sweep(self) -> None:
        """Take out machines that are gone."""
        now = self.clock.now()
        for g in self.sets.values():
            gone = [n for n, m in g.members.items() if m.status(now) == _GONE]
            for n in gone:
                del g.members[n]
                g.capacity -= 1
                self._refill(g)

    def set_id(self, g: FakeVmss) -> str:
        """A scale set as a resource."""
        return f"{self._root}/Microsoft.Compute/virtualMachineScaleSets/{g.name}"

    def _set_body(self, g: FakeVmss) -> Json:
        return {
            "id": self.set_id(g),
            "name": g.name,
            "location": "westeurope",
            "etag": f'"{g.generation}"',
            "tags": dict(g.tags),
            "sku": {"name": g.size, "tier": "Standard", "capacity": g.capacity},
            "properties": {
                "provisioningState": "Succeeded",
                "orchestrationMode": "Flexible" if g.flexible else "Uniform",
                "virtualMachineProfile": model_of(g, self.account.subnet(self._root)),
                "additionalCapabilities": {"hibernationEnabled": g.hibernates},
            },
        }

    def _get_set(self, call: Call) -> Answer:
        return Answer(self._set_body(self._set(call)))

    def _patch_set(self, call: Call) -> Answer:
        g = self._set(call)
        match(call, g.generation)
        wanted = int(call.body.get("sku", {}).get("capacity", g.capacity))
        if wanted < g.capacity:
            raise ApiError(400, "InvalidParameter", "this test lowers no size: machines are deleted by name")
        self._within_quota(wanted - g.capacity)
        g.generation += 1
        g.tags = dict(call.body.get("tags", g.tags))
        profile = call.body.get("properties", {}).get("virtualMachineProfile", {})
        image = profile.get("storageProfile", {}).get("imageReference", g.image)
        g.image = {k: v for k, v in image.items() if v is not None}
        error = "AllocationFailed" if wanted > g.capacity and g.size in self.faults.short else ""
        for _ in range(wanted - g.capacity):
            self._add_machine(g, error)
        g.capacity = wanted
        self._refill(g)
        return Answer(self._set_body(g), 200, self.begin(_MAKING[-1][0], error))

    def _within_quota(self, more: int) -> None:
        there = sum(g.capacity for g in self.sets.values())
        if self.faults.quota is not None and more > 0 and there + more > self.faults.quota:
            text = f"Operation could not be completed as it results in exceeding approved Total Cores quota of {there}"
            raise ApiError(409, "OperationNotAllowed", text)

    def _add_machine(self, g: FakeVmss, error: str) -> None:
        """From the standby pool if it has one ready, else a new one."""
        now = self.clock.now()
        ready = [n for n, m in g.standby.members.items() if not m.moving(now)] if g.standby else []
        if ready and g.standby is not None:
            m = g.standby.members.pop(ready[0])
            came_from = _BACK.get(m.aim, Standby.HIBERNATED)
            m.follow(now, "start", ((0, "starting"), (10, "running")))
            m.boots(came_from, 10, now)
            g.members[m.name] = m
            return
        m = self._new(g)
        if error:
            m.follow(now, "create", ((0, "creating"), (_MAKING[-1][0], "failed")))
            m.error, m.agent = error, None
        g.members[m.name] = m

    def _new(self, g: FakeVmss) -> FakeMachine:
        now = self.clock.now()
        g.serial += 1
        m = FakeMachine(f"{g.name}_{g.serial:08x}", g.size, "", now, g.spot)
        m.address, m.posted, m.lead_s = self.agents.next_address(), {} if self.agents.real else None, self.lead_s
        m.follow(now, "create", _MAKING)
        g.booted[m.name] = g.image.get("id", "")
        m.boots(Standby.COLD, _MAKING[-1][0], now, "checksum differs" if self.spoiled else "")
        return m

    def _delete(self, call: Call) -> Answer:
        g, now = self._set(call), self.clock.now()
        names = [str(n) for n in call.body.get("instanceIds", [])]
        if any(n not in g.members for n in names):
            raise ApiError(400, "InvalidParameter", "an instance id is not of the scale set")
        for n in names:
            g.members[n].follow(now, "delete", ((0, "deleting"), (20, _GONE)))
            g.members[n].sleeps(now)
        return Answer(None, 202, self.begin(20))

    # ---- machines

    def _vm(self, call: Call) -> FakeMachine:
        self._sweep()
        try:
            return self.machine(call.parts["vm"])
        except KeyError:
            raise ApiError(404, "ResourceNotFound", f"The resource {call.parts['vm']} was not found") from None

    def _vm_body(self, g: FakeVmss | None, m: FakeMachine, at: datetime) -> Json:
        state, now = m.status(at), self.clock.now()
        provisioning = {"creating": "Creating", "deleting": "Deleting", "failed": "Failed"}.get(state, "Succeeded")
        changed = max(since(m, at), self._changed.get(m.name, m.created_at))
        code = f"failed/{m.error}" if m.error else provisioning.lower()
        told: Json = {"code": f"ProvisioningState/{code}", "time": changed.isoformat()}
        statuses = [told | ({"message": "no capacity"} if m.error else {})]
        if provisioning == "Succeeded":
            power = "deallocated" if state == "hibernated" else state
            statuses.append({"code": f"PowerState/{power}"})
        if state == "hibernated":
            statuses.append({"code": "HibernationState/Hibernated"})
        return {
            "id": f"{self._root}/Microsoft.Compute/virtualMachines/{m.name}",
            "name": m.name,
            "location": "westeurope",
            "etag": f'"{m.generation}"',
            "tags": {**m.notes, **m.noted(now)},
            "properties": {
                "provisioningState": provisioning,
                "timeCreated": m.created_at.isoformat(),
                "hardwareProfile": {"vmSize": m.machine_type},
                "priority": "Spot" if m.spot else "Regular",
                **({"virtualMachineScaleSet": {"id": self.set_id(g)}} if g else {}),
                "storageProfile": {"imageReference": {"id": g.booted.get(m.name, "") if g else ""}},
                "instanceView": {"statuses": statuses},
            },
        }

    def _list(self, call: Call) -> Answer:
        """As it was some time ago, if listings lag."""
        self._sweep()
        at = self.clock.now() - timedelta(seconds=self.faults.lag_s)
        wanted = call.query.get("$filter", "")
        groups = [g for g in self.sets.values() if self.set_id(g) in wanted]
        found = [self._vm_body(g, m, at) for g in groups for m in g.members.values() if m.status(at)]
        return Answer({"value": found})

    def _get_vm(self, call: Call) -> Answer:
        m = self._vm(call)
        g = next((g for g in self.sets.values() if m.name in g.members), None)
        return Answer(self._vm_body(g, m, self.clock.now()))

    def _patch_vm(self, call: Call) -> Answer:
        m = self._vm(call)
        match(call, m.generation)
        if m.status(self.clock.now()) == "creating":
            raise ApiError(409, "Conflict", f"{m.name} is being created")
        m.generation += 1
        mine = (f"{REPORT}.", *([NOTICE] if self.agents.real else []))
        m.notes = {k: v for k, v in call.body.get("tags", m.notes).items() if not k.startswith(mine)}
        self._changed[m.name] = self.clock.now()
        return self._get_vm(call)

    def _merge_tags(self, call: Call) -> Answer:
        """A machine writes its own, with its own identity."""
        m = self._vm(call)
        if self.metadata.owner(call.headers.get("authorization", "").removeprefix("Bearer ")) != m.name:
            raise ApiError(403, "AuthorizationFailed", f"the client may not write the tags of {m.name}")
        if call.body.get("operation") != "Merge" or m.posted is None:
            raise ApiError(400, "InvalidParameter", "only merges are served")
        m.posted.update(call.body["properties"]["tags"])
        m.generation += 1
        return Answer({"properties": {"tags": {**m.notes, **m.posted}}})

    def _deallocate(self, call: Call) -> Answer:
        m, now = self._vm(call), self.clock.now()
        if m.status(now) != "running":
            raise ApiError(409, "OperationNotAllowed", f"{m.name} is {m.status(now)}")
        aim, took_s = ("hibernated", 25) if call.query.get("hibernate") == "true" else ("deallocated", 20)
        m.follow(now, "deallocate", ((0, "deallocating"), (took_s, aim)))
        m.sleeps(now)
        return Answer(None, 202, self.begin(took_s))

    def _start(self, call: Call) -> Answer:
        m, now = self._vm(call), self.clock.now()
        state = m.status(now)
        if state not in _BACK:
            raise ApiError(409, "OperationNotAllowed", f"{m.name} is {state}")
        if m.machine_type in self.faults.short:
            return Answer(None, 202, self.begin(10, "AllocationFailed"))
        m.follow(now, "start", ((0, "starting"), (15, "running")))
        m.boots(_BACK[state], 15, now)
        return Answer(None, 202, self.begin(15))

    def _generalize(self, call: Call) -> Answer:
        m = self._vm(call)
        if m.status(self.clock.now()) != "deallocated":
            raise ApiError(409, "OperationNotAllowed", f"{m.name} is not deallocated")
        return Answer(None)

    # ---- standby pools

    def _pool(self, call: Call) -> tuple[FakeVmss, FakeStandbyPool]:
        self._sweep()
        for g in self.sets.values():
            if g.standby is not None and g.standby.name == call.parts["pool"]:
                return g, g.standby
        raise ApiError(404, "ResourceNotFound", f"The resource {call.parts['pool']} was not found")

    def _refill(self, g: FakeVmss) -> None:
        """Keep as many as the formula says, and end the others."""
        p, now = g.standby, self.clock.now()
        if p is None:
            return
        wanted = max(p.most - g.capacity, p.least)
        for n in list(p.members)[wanted:]:
            del p.members[n]
        while len(p.members) < wanted:
            m = self._new(g)
            m.follow(now, "create", (*_MAKING, (90.0, _POOLED[p.state])))
            if m.agent is not None:
                m.agent.waits = True
            if p.state != "Running":
                m.sleeps(now + timedelta(seconds=90))
            p.members[m.name] = m

    def _get_pool(self, call: Call) -> Answer:
        g, p = self._pool(call)
        body: Json = {
            "id": call.path,
            "name": p.name,
            "location": "westeurope",
            "properties": {
                "elasticityProfile": {"maxReadyCapacity": p.most, "minReadyCapacity": p.least},
                "virtualMachineState": p.state,
                "attachedVirtualMachineScaleSetId": self.set_id(g),
                "provisioningState": "Succeeded",
            },
        }
        return Answer(body)

    def _patch_pool(self, call: Call) -> Answer:
        g, p = self._pool(call)
        profile = call.body.get("properties", {}).get("elasticityProfile", {})
        p.most = int(profile.get("maxReadyCapacity", p.most))
        p.least = int(profile.get("minReadyCapacity", p.least))
        self._refill(g)
        return self._get_pool(call)

    def _list_pool(self, call: Call) -> Answer:
        _, p = self._pool(call)
        machines = f"{self._root}/Microsoft.Compute/virtualMachines"
        found = [{"name": n, "properties": {"virtualMachineResourceId": f"{machines}/{n}"}} for n in p.members]
        return Answer({"value": found})

    def _view_pool(self, call: Call) -> Answer:
        _, p = self._pool(call)
        now = self.clock.now()
        states = [m.status(now).capitalize() for m in p.members.values()]
        counts = [{"state": s, "count": states.count(s)} for s in sorted(set(states))]
        return Answer({"name": "latest", "properties": {"instanceCountSummary": [{"instanceCountsByState": counts}]}})

    # ---- the rest

    def begin(self, takes_s: float, error: str = "") -> dict[str, str]:
        """Headers of an operation that takes so long and then fails or not."""
        name = f"op-{len(self._operations):06d}"
        self._operations[name] = _Operation(self.clock.now() + timedelta(seconds=takes_s), error)
        url = f"{self.url}/subscriptions/{self.subscription}/providers/operations/{name}"
        return {"Azure-AsyncOperation": url, "Location": url, "Retry-After": "0"}

    def _look(self, call: Call) -> Answer:
        """Where an operation is; looking at one that is not over lets some seconds pass."""
        op = self._operations[call.parts["name"]]
        if op.over_at > self.clock.now():
            self.let_pass(min((op.over_at - self.clock.now()).total_seconds(), _LOOK_S))
        if op.over_at > self.clock.now():
            return Answer({"status": "InProgress"}, 200, {"Retry-After": "0"})
        failed: dict[str, Any] = {"error": {"code": op.error, "message": "no capacity for this size here"}}
        return Answer({"status": "Failed", **failed} if op.error else {"status": "Succeeded"})
