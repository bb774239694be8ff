"""One flexible scale set: its size is raised by patch, and lowered only by deleting machines by name."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, TypeVar

from preprov.contracts import Capabilities, Clock, LaunchRequest
from preprov.model.errors import ConflictError, InsufficientCapacityError, NotFoundError, PoolError, ThrottledError
from preprov.model.notes import POOL, PREFIX, STARTED, TOKEN
from preprov.model.offerings import CapacityType, Standby
from preprov.model.pools import Group, Pool
from preprov.pools.azure.clients import Clients, Json, as_json, pages
from preprov.pools.azure.errors import calling
from preprov.pools.azure.options import AzureGroup
from preprov.pools.azure.standby import StandbyPool
from preprov.pools.azure.view import machine
from preprov.pools.machines.machine import Machine, State, instant
from preprov.pools.machines.orders import Greeting, launch_name, no_greeting, noting
from preprov.pools.machines.shortage import Shortages

T = TypeVar("T")
LAUNCH: Final = f"{PREFIX}launch."
"""Tags of the scale set, one per launch asked for; written with the new size in one patch, so both are or none."""
FOUND: Final = f"{PREFIX}found"
"""Tag of machines that were there before our first launch: no launch may count them as its own."""
WAITING: Final = f"{PREFIX}standby-pool"
"""Not a tag: marks machines that a standby pool holds, by its name."""
_KEPT: Final = {Standby.HIBERNATED: State.HIBERNATED, Standby.STOPPED: State.STOPPED}
_REMEMBERED: Final = timedelta(hours=1)
_STATES: Final = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})
_ROUNDS: Final = 3
_THREADS: Final = 8
_LOOK_S: Final = 1.0
_AUTOSCALE_API: Final = "2022-10-01"


@dataclass(frozen=True)
class Tools:
    """What a group works with. `greeting`: notes of machines that are to serve, such as who may hand them tasks."""

    clients: Clients
    shortages: Shortages
    clock: Clock
    greeting: Greeting = no_greeting


class ScaleSet:
    """The lender of such a scale set's machines (see `preprov.pools.machines.lender`)."""

    def __init__(self, tools: Tools, options: AzureGroup) -> None:
        self.options = options
        self._tools = tools
        self.standby = StandbyPool(tools.clients, options) if options.standby_pool else None

    @property
    def pool(self) -> Pool:
        """The pool it is of."""
        return self.options.pool

    @property
    def group(self) -> Group:
        """The group it is."""
        return self.options.group

    @property
    def where(self) -> str:
        """For messages."""
        return self.options.where

    @property
    def fence_s(self) -> float:
        """How long an agent is waited for to confirm that it begins no more tasks."""
        return self.options.fence_s

    def capabilities(self) -> Capabilities:
        """The scale set decides on size and zone. Azure ends no raise by itself without choosing whom to end."""
        spot = any(o.capacity_type is CapacityType.SPOT for o in self.group.offerings)
        return Capabilities(
            standby_states=self.group.standby_states & _STATES,
            chooses_offering=False,
            interrupts=spot,
            names_kept=self.standby is None,
            steps_down=False,
            sets_targets=self.standby is not None,
        )

    # ---- what exists

    def machines(self, ids: Sequence[str] | None = None) -> Mapping[str, Machine]:
        """Machines of the scale set and of its standby pool; those named are asked for one by one, for listings lag."""
        vms = self._listed() if ids is None else [v for v in self._each(ids, self._vm) if v is not None]
        now = self._tools.clock.now()
        found = [machine(v, now) for v in vms if self._is_member(v)]
        found.extend(self._waiting(ids, {m.node_id for m in found}))
        return {m.node_id: m for m in found if m.notes.get(POOL, self.pool.name) == self.pool.name}

    def noted(self) -> Mapping[str, Mapping[str, str]]:
        """As in the tags of its machines."""
        return {str(v["name"]): v.get("tags") or {} for v in self._listed() if self._is_member(v)}

    def _waiting(self, ids: Sequence[str] | None, members: Set[str]) -> list[Machine]:
        """Machines of the standby pool, in the state it keeps: none of them can be had by name."""
        if self.standby is None or (ids is not None and all(i in members for i in ids)):
            return []
        names = [n for n in self.standby.members() if n not in members and (ids is None or n in ids)]
        if not names:
            return []
        state, now = _KEPT[self.standby.kept()], self._tools.clock.now()
        vms = [v for v in self._each(names, self._vm) if v is not None and not self._is_member(v)]
        marked = {WAITING: self.options.standby_pool}
        found = (machine(v, now) for v in vms)
        return [replace(m, state=state, notes={**m.notes, **marked}) for m in found if m.state is not State.ENDING]

    def _listed(self) -> list[Json]:
        rg, wanted = self.options.place.resource_group, f"'virtualMachineScaleSet/id' eq '{self.options.scale_set_id}'"
        return pages(self.where, self._vms.list(rg, filter=wanted, expand="instanceView"))

    def _vm(self, name: str) -> Json | None:
        try:
            with calling(self.where):
                return as_json(self._vms.get(self.options.place.resource_group, name, expand="instanceView"))
        except NotFoundError:
            return None

    def _is_member(self, vm: Json) -> bool:
        of = str(vm.get("properties", {}).get("virtualMachineScaleSet", {}).get("id", ""))
        return of.lower() == self.options.scale_set_id.lower()

    def settings(self) -> Json:
        """The scale set itself."""
        with calling(self.where):
            return as_json(self._sets.get(self.options.place.resource_group, self.options.scale_set))

    # ---- more

    def create(self, request: LaunchRequest, count: int, notes: Mapping[str, str]) -> tuple[str, ...]:
        """Raise the size, and make the machines that come our own by their tags.

        The launch is noted on the scale set in the same patch as the size, under its etag: sent again it raises
        nothing, but goes on with what a crash left.
        """
        o = request.offering
        if self._tools.shortages.until(o.instance_type, o.zone, o.capacity_type) is not None:
            raise InsufficientCapacityError(
                f"no {o.key} was to be had a moment ago", where=self.where, hint="another offering"
            )
        settings, key = self.settings(), f"{LAUNCH}{launch_name(request)}"
        noted = (settings.get("tags") or {}).get(key)
        failed: PoolError | None = None
        if noted is None:
            self._mark_found()
            failed = self._raise_once(settings, count, key)
        if failed is not None:
            self._give_back(request, failed)
        asked = self._asked(noted, count)
        with noting(self.where, range(asked)):
            ids = self._claim(count if noted is None and failed is None else 0, asked, notes)
        if failed is not None and not ids:
            raise failed
        return ids

    def finish(self, request: LaunchRequest, made: Sequence[str], notes: Mapping[str, str]) -> tuple[str, ...]:
        """Put the notes on those machines that came and were not noted yet."""
        noted = (self.settings().get("tags") or {}).get(f"{LAUNCH}{launch_name(request)}")
        left = self._asked(noted, 0) - len(made)
        if left < 1:
            return tuple(made)
        with noting(self.where, made):
            return (*made, *self._claim(0, left, notes))

    def _asked(self, noted: str | None, count: int) -> int:
        """How many a launch asked for the first time."""
        try:
            return int(json.loads(noted)["count"]) if noted else count
        except (KeyError, TypeError, ValueError):
            return count

    def _ledger(self, count: int) -> str:
        return json.dumps({"count": count, "at": self._tools.clock.now().isoformat()})

    def _mark_found(self) -> None:
        """Machines without a note of ours, and those that failed to come, are no launch's."""
        strange = [m.node_id for m in self.machines().values() if _unclaimed(m)]
        if strange:
            self.note(strange, {FOUND: "yes"})

    def _raise_once(self, settings: Json, by: int, key: str) -> PoolError | None:
        """Raise the size for a launch; as `_raise`, but an answer that was lost is no refusal: the note tells."""
        try:
            return self._raise(settings, by, {key: self._ledger(by)})
        except PoolError:
            if key not in (self.settings().get("tags") or {}):
                raise
            return None

    def _raise(self, settings: Json, by: int, notes: Mapping[str, str]) -> PoolError | None:
        """Raise the size by so many; returns what went wrong after Azure had accepted it.

        Raises:
            PoolError: it did not accept it.
        """
        sku, now = dict(settings["sku"]), self._tools.clock.now()
        tags = {k: v for k, v in (settings.get("tags") or {}).items() if not _forgotten(k, v, now - _REMEMBERED)}
        body = {"sku": {**sku, "capacity": int(sku["capacity"]) + by}, "tags": {**tags, **notes}}
        operation = self._update(settings, body)
        try:
            with calling(self.where):
                operation.result(timeout=self.options.settle_s)
        except ThrottledError:  # nobody said how it ends: what comes is found by listing
            return None
        except PoolError as e:
            return e
        return None

    def _update(self, settings: Json, body: Json) -> Any:
        """Patch the scale set as it was read; somebody else's change meanwhile is a ConflictError."""
        from azure.core import MatchConditions

        with calling(self.where):
            return self._sets.begin_update(
                self.options.place.resource_group,
                self.options.scale_set,
                body,
                etag=settings.get("etag"),
                match_condition=MatchConditions.IfNotModified,
            )

    def _claim(self, expected: int, most: int, notes: Mapping[str, str]) -> tuple[str, ...]:
        """Put a launch's notes on new machines: at most so many, and wait until as many as are expected are listed."""
        started = self._tools.clock.now()
        while True:
            new = sorted(m.node_id for m in self.machines().values() if _unclaimed(m) and m.state is not State.BROKEN)
            if len(new) >= expected or (self._tools.clock.now() - started).total_seconds() > self.options.settle_s:
                break
            self._tools.clock.sleep(_LOOK_S)
        mine = new[:most]
        self.note(mine, dict(notes))
        return tuple(mine)

    def _give_back(self, request: LaunchRequest, failed: PoolError) -> None:
        """What failed to come still counts in the size: take it out by name, never by a number."""
        if isinstance(failed, InsufficientCapacityError):
            o = request.offering
            self._tools.shortages.note(o.instance_type, o.zone, o.capacity_type, self.options.shortage_ttl_s)
        broken = [m.node_id for m in self.machines().values() if m.state is State.BROKEN and _unclaimed(m)]
        if broken:
            self.delete(broken)

    def start(self, machines: Sequence[Machine]) -> None:
        """Start deallocated machines, hibernated or not; a lack of machines for them shows here."""
        rg = self.options.place.resource_group
        waiting = [m.node_id for m in machines if WAITING in m.notes]
        if waiting:
            self._hand_over(len(waiting))
        with calling(self.where):
            operations = [self._vms.begin_start(rg, m.node_id) for m in machines if m.node_id not in waiting]
            for one in operations:
                one.result(timeout=self.options.settle_s)

    def _hand_over(self, count: int) -> None:
        """Raise the size: the standby pool gives as many, of its own choice, and Azure makes what it lacks."""
        standby = self.standby
        if standby is not None:
            # Whichever of them it gives; some the vendor made, and never told them what a launch tells.
            self.note(standby.members(), {**self._tools.greeting(), STARTED: self._tools.clock.now().isoformat()})
        failed = self._raise(self.settings(), count, {})
        if failed is not None:
            raise failed

    # ---- less

    def hibernate(self, machines: Sequence[Machine]) -> None:
        """Deallocate with the memory kept."""
        self._deallocate(machines, hibernate=True)

    def stop(self, machines: Sequence[Machine]) -> None:
        """Deallocate."""
        self._deallocate(machines, hibernate=None)

    def _deallocate(self, machines: Sequence[Machine], *, hibernate: bool | None) -> None:
        rg = self.options.place.resource_group
        with calling(self.where):
            for m in machines:
                self._vms.begin_deallocate(rg, m.node_id, hibernate=hibernate, polling=False)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete members by name, which lowers the size by as many; a standby pool is made as much smaller."""
        members = [v["name"] for v in self._each(ids, self._vm) if v is not None and self._is_member(v)]
        waiting = self._waiting(ids, set(members))
        if waiting and self.standby is not None:
            self.standby.lower(len(waiting))
        if members:
            with calling(self.where):
                self._sets.begin_delete_instances(
                    self.options.place.resource_group, self.options.scale_set, {"instanceIds": members}, polling=False
                )

    # ---- notes

    def note(self, ids: Sequence[str], notes: Mapping[str, str | None]) -> None:
        """As tags; written only onto the tags that were read."""
        self._each(ids, lambda name: self._note(name, notes))

    def _note(self, name: str, notes: Mapping[str, str | None]) -> None:
        for attempt in range(_ROUNDS):
            vm = self._vm(name)
            if vm is None:
                return
            old = {str(k): str(v) for k, v in (vm.get("tags") or {}).items()}
            new = {k: v for k, v in {**old, **notes}.items() if v is not None}
            if new == old:
                return
            try:
                return self._write(name, vm, new)
            except ConflictError:  # somebody else wrote tags, or the machine is being made: look again
                if attempt == _ROUNDS - 1:
                    raise
                self._tools.clock.sleep(_LOOK_S)

    def _write(self, name: str, vm: Json, tags: Mapping[str, str]) -> None:
        from azure.core import MatchConditions

        with calling(self.where):
            self._vms.begin_update(
                self.options.place.resource_group,
                name,
                {"tags": dict(tags)},
                etag=vm.get("etag"),
                match_condition=MatchConditions.IfNotModified,
                polling=False,
            )

    # ---- calls

    def resize(self, capacity: int) -> None:
        """Raise the size to a number; the machines that come are no launch's.

        Raises:
            PoolError: it failed.
        """
        settings = self.settings()
        failed = self._raise(settings, capacity - int(settings["sku"]["capacity"]), {})
        if failed is not None:
            raise failed

    def forget_launches(self) -> list[str]:
        """Take our notes off the scale set; a line if there were any.

        Raises:
            PoolError: it failed.
        """
        settings = self.settings()
        tags = settings.get("tags") or {}
        kept = {k: v for k, v in tags.items() if not k.startswith(LAUNCH)}
        if kept == tags:
            return []
        operation = self._update(settings, {"tags": kept})
        with calling(self.where):
            operation.result(timeout=self.options.settle_s)
        return [f"our notes on the scale set: {len(tags) - len(kept)} deleted"]

    def autoscalers(self) -> list[str]:
        """Names of the settings of Azure Monitor autoscale that write its size and are on.

        Raises:
            PoolError: they could not be asked.
        """
        place = self.options.place
        root = f"/subscriptions/{place.subscription}/resourceGroups/{place.resource_group}"
        path = f"{root}/providers/Microsoft.Insights/autoscaleSettings"
        found = self._tools.clients.resources(place, self.where, path, _AUTOSCALE_API)
        mine = self.options.scale_set_id.lower()
        return [
            str(s["name"])
            for s in found
            if str(s["properties"].get("targetResourceUri", "")).lower() == mine
            and s["properties"].get("enabled", True)
        ]

    def boot_from(self, settings: Json, reference: Mapping[str, object]) -> None:
        """Have the scale set make new machines from an image, named as an `imageReference`.

        Raises:
            PoolError: it failed, or somebody else has changed it since it was read.
        """
        profile = {"storageProfile": {"imageReference": dict(reference)}}
        operation = self._update(settings, {"properties": {"virtualMachineProfile": profile}})
        with calling(self.where):
            operation.result(timeout=self.options.settle_s)

    def listed(self) -> list[Json]:
        """Its machines as they are listed, for those who examine it."""
        return self._listed()

    def usages(self, location: str) -> list[Json]:
        """What is used of the region's quotas."""
        return pages(self.where, self._tools.clients.compute(self.options.place).usage.list(location))

    @property
    def _vms(self) -> Any:
        return self._tools.clients.compute(self.options.place).virtual_machines

    @property
    def _sets(self) -> Any:
        return self._tools.clients.compute(self.options.place).virtual_machine_scale_sets

    def _each(self, names: Iterable[str], do: Callable[[str], T]) -> list[T]:
        """`do` of each name, some at a time."""
        todo = list(dict.fromkeys(names))
        if len(todo) < 2:
            return [do(n) for n in todo]
        with ThreadPoolExecutor(min(_THREADS, len(todo))) as threads:
            return list(threads.map(do, todo))


def _unclaimed(m: Machine) -> bool:
    return not m.notes.keys() & {TOKEN, FOUND, WAITING} and m.state is not State.ENDING


def _forgotten(key: str, value: str, before: Any) -> bool:
    """True for the note of a launch so old that nobody sends it again."""
    if not key.startswith(LAUNCH):
        return False
    try:
        at = instant(str(json.loads(value)["at"]))
    except (KeyError, TypeError, ValueError):
        return True
    return at is None or at < before
