"""One zonal managed instance group: machines are made, put to sleep, woken and ended by name, never by a count."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from preprov.contracts import Capabilities, Clock, LaunchRequest
from preprov.model.errors import ConflictError, InsufficientCapacityError, NotFoundError, PoolError
from preprov.model.notes import POOL
from preprov.model.offerings import CapacityType, Standby
from preprov.model.pools import Group, Pool
from preprov.pools.gcp.clients import Clients
from preprov.pools.gcp.errors import typed
from preprov.pools.gcp.options import GcpGroup
from preprov.pools.gcp.resize import all_or_none
from preprov.pools.gcp.view import NAMESPACE, NOTES, as_guest, machine, name_of, read_notes
from preprov.pools.machines.machine import Machine
from preprov.pools.machines.orders import launch_name, launch_uuid
from preprov.pools.machines.shortage import Shortages

_MIGS: Final = "InstanceGroupManagers"
_STATES: Final = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})
_ASLEEP: Final = frozenset({"SUSPENDED", "TERMINATED", "STOPPED"})
_LEAVING: Final = frozenset({"DELETING", "ABANDONING"})
_AT_ONCE: Final = 500
_ROUNDS: Final = 3
_THREADS: Final = 8
_LOOK_S: Final = 1.0


@dataclass(frozen=True)
class Tools:
    """What a group works with."""

    clients: Clients
    shortages: Shortages
    clock: Clock


class ManagedGroup:
    """The lender of such a group's machines (see `preprov.pools.machines.lender`)."""

    def __init__(self, tools: Tools, options: GcpGroup) -> None:
        self.options = options
        self._tools = tools

    @property
    def pool(self) -> Pool:
        """The pool it is of."""
        return self.options.pool

    @property
    def group(self) -> Group:
        """The group it is."""
        return self.options.group

    @property
    def fence_s(self) -> float:
        """How long an agent is waited for to confirm that it begins no more tasks."""
        return self.options.fence_s

    @property
    def where(self) -> str:
        """For messages."""
        return self.options.where

    def capabilities(self) -> Capabilities:
        """The template decides on the type, the group on the zone. Compute Engine ends no raise by itself."""
        spot = any(o.capacity_type is CapacityType.SPOT for o in self.group.offerings)
        return Capabilities(
            standby_states=self.group.standby_states & _STATES,
            chooses_offering=False,
            interrupts=spot,
            steps_down=False,
            sets_targets=bool(self.group.standby_states & {Standby.HIBERNATED, Standby.STOPPED}),
        )

    # ---- what exists

    def machines(self, ids: Sequence[str] | None = None) -> Mapping[str, Machine]:
        """Members of the group, with their instances and what their agents said.

        The group says who is a member; the listing of instances may lag behind, so a member it lacks is asked for by
        name. A member that no launch of ours made is of whichever pool names the group.
        """
        members = {name_of(m.instance): m for m in self._members() if ids is None or name_of(m.instance) in ids}
        if not members:
            return {}
        instances = self._instances(members)
        running = [i for i, m in members.items() if m.instance_status == "RUNNING"]
        guests = dict(zip(running, self._each(running, self._guest), strict=True))
        now = self._tools.clock.now()
        found = {i: machine(m, instances.get(i), guests.get(i, {}), now) for i, m in members.items()}
        return {i: m for i, m in found.items() if m.notes.get(POOL, self.pool.name) == self.pool.name}

    def noted(self) -> Mapping[str, Mapping[str, str]]:
        """As in the metadata of its instances."""
        members = {name_of(m.instance): m for m in self._members()}
        return {i: read_notes(x.metadata) for i, x in self._instances(members).items()}

    def _members(self) -> list[Any]:
        found = self._pages(
            _MIGS, "list_managed_instances", instance_group_manager=self.options.mig, max_results=_AT_ONCE
        )
        return list(found)

    def _instances(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """Instances of members, by name: a listing for many, else one by one."""
        there = [i for i, m in members.items() if m.instance_status]
        found: dict[str, Any] = {}
        if len(there) > _THREADS:
            listed = self._pages("Instances", "list", filter=f"name eq {self.base}.*", max_results=_AT_ONCE)
            found = {i.name: i for i in listed if i.name in members}
        missing = [i for i in there if i not in found]
        asked = self._each(missing, self._instance)
        return found | {i: x for i, x in zip(missing, asked, strict=True) if x is not None}

    def _instance(self, name: str) -> Any:
        try:
            return self._call("Instances", "get", instance=name)
        except NotFoundError:
            return None

    def _guest(self, name: str) -> Mapping[str, str]:
        """Guest attributes of an instance; none before its agent wrote some."""
        try:
            found = self._call("Instances", "get_guest_attributes", instance=name, query_path=f"{NAMESPACE}/")
        except NotFoundError:
            return {}
        return as_guest(found.query_value.items)

    def settings(self) -> Any:
        """The managed instance group itself."""
        return self._call(_MIGS, "get", instance_group_manager=self.options.mig)

    # ---- more

    def create(self, request: LaunchRequest, count: int, notes: Mapping[str, str]) -> tuple[str, ...]:
        """Members with names of this launch; those that cannot be had are taken out again, so that nobody waits."""
        o = request.offering
        if self._tools.shortages.until(o.instance_type, self.options.place.zone, o.capacity_type) is not None:
            raise InsufficientCapacityError(
                f"no {o.key} was to be had a moment ago", where=self.where, hint="another offering"
            )
        base = self.base
        names = [f"{base}-{launch_name(request)}-{i:03d}" for i in range(count)]
        preserved = {"metadata": {NOTES: json.dumps(dict(notes))}}
        instances = [{"name": n, "preserved_state": preserved} for n in names]
        if self.options.all_or_none:
            self._all_or_none(request, instances)
        else:
            self._order("create_instances", {"instances": instances}, request_id=launch_uuid(request))
        failed, there = self._settled(names)
        if failed:
            self._learn(request, failed)
            self.delete(list(failed))
            if len(failed) == len(names):
                raise next(iter(failed.values()))
        return tuple(n for n in names if n in there and n not in failed)

    def finish(self, request: LaunchRequest, made: Sequence[str], notes: Mapping[str, str]) -> tuple[str, ...]:
        """Nothing is left to do: members have their notes from the first moment."""
        return tuple(made)

    def _all_or_none(self, request: LaunchRequest, instances: Sequence[Any]) -> None:
        try:
            all_or_none(self, self._tools.clock, f"launch-{launch_name(request)}", instances, launch_uuid(request))
        except InsufficientCapacityError as e:
            self._learn(request, {"": e})
            raise

    def _learn(self, request: LaunchRequest, failed: Mapping[str, PoolError]) -> None:
        if any(isinstance(e, InsufficientCapacityError) for e in failed.values()):
            o = request.offering
            zone, ttl_s = self.options.place.zone, self.options.shortage_ttl_s
            self._tools.shortages.note(o.instance_type, zone, o.capacity_type, ttl_s)

    def _settled(self, names: Sequence[str]) -> tuple[dict[str, PoolError], set[str]]:
        """Watch until each member either has a machine or failed to get one.

        Returns:
            What failed and why, and the names that are members of the group.
        """
        started = self._tools.clock.now()
        while True:
            members = {name_of(m.instance): m for m in self._members() if name_of(m.instance) in names}
            failed = {i: e for i, m in members.items() if (e := self._failure(m)) is not None}
            waiting = [i for i, m in members.items() if not m.instance_status and i not in failed]
            if not waiting or (self._tools.clock.now() - started).total_seconds() > self.options.settle_s:
                return failed, {i for i, m in members.items() if m.current_action not in _LEAVING}
            self._tools.clock.sleep(_LOOK_S)

    def _failure(self, member: Any) -> PoolError | None:
        errors = list(member.last_attempt.errors.errors)
        return typed(errors[0].code, errors[0].message, self.where) if errors else None

    def start(self, machines: Sequence[Machine]) -> None:
        """Resume the suspended, start the stopped.

        Raises:
            InsufficientCapacityError, QuotaExceededError: there are no machines for some, named; the group goes on
                trying, so they may still come.
        """
        for state, verb in (("hibernated", "resume_instances"), ("stopped", "start_instances")):
            self._by_name(verb, [m.node_id for m in machines if m.state == state])
        failed = self._woken([m.node_id for m in machines])
        if failed:
            first = next(iter(failed.values()))
            raise type(first)(f"{', '.join(failed)}: {first.what}", where=first.where, hint=first.hint)

    def _woken(self, names: Sequence[str]) -> dict[str, PoolError]:
        """Watch until each of these is on its way up; returns those that failed to, so far."""
        started = self._tools.clock.now()
        while True:
            members = [m for m in self._members() if name_of(m.instance) in names]
            failed = {name_of(m.instance): e for m in members if (e := self._failure(m)) is not None}
            asleep = [m for m in members if m.instance_status in _ASLEEP and name_of(m.instance) not in failed]
            if not asleep or (self._tools.clock.now() - started).total_seconds() > self.options.settle_s:
                return failed
            self._tools.clock.sleep(_LOOK_S)

    # ---- less

    def hibernate(self, machines: Sequence[Machine]) -> None:
        """Suspend members; a member still being made is stopped by the group when it is there."""
        self._by_name("suspend_instances", [m.node_id for m in machines])

    def stop(self, machines: Sequence[Machine]) -> None:
        """Stop members."""
        self._by_name("stop_instances", [m.node_id for m in machines])

    def delete(self, ids: Sequence[str]) -> None:
        """Delete members by name, which lowers the group's size by as many; names that are no members are left out."""
        self._by_name("delete_instances", ids, skip_instances_on_validation_error=True)

    def _by_name(self, verb: str, ids: Sequence[str], **more: Any) -> None:
        place = self.options.place
        prefix = f"projects/{place.project}/zones/{place.zone}/instances"
        for i in range(0, len(ids), _AT_ONCE):
            some = [f"{prefix}/{n}" for n in ids[i : i + _AT_ONCE]]
            self._order(verb, {"instances": some, **more})

    # ---- notes

    def note(self, ids: Sequence[str], notes: Mapping[str, str | None]) -> None:
        """Into one metadata entry per instance; written only onto the metadata that was read."""
        self._each(ids, lambda name: self._note(name, notes))

    def _note(self, name: str, notes: Mapping[str, str | None]) -> None:
        for attempt in range(_ROUNDS):
            instance = self._instance(name)
            if instance is None:
                return
            old = read_notes(instance.metadata)
            new = {k: v for k, v in {**old, **notes}.items() if v is not None}
            if new == old:
                return
            try:
                return self._write(name, instance.metadata, new)
            except ConflictError:  # somebody else wrote metadata: theirs is kept
                if attempt == _ROUNDS - 1:
                    raise

    def _write(self, name: str, metadata: Any, notes: Mapping[str, str]) -> None:
        items = [{"key": i.key, "value": i.value} for i in metadata.items if i.key != NOTES]
        items.append({"key": NOTES, "value": json.dumps(dict(notes))})
        resource = {"items": items, "fingerprint": metadata.fingerprint}
        self._done(self._call("Instances", "set_metadata_unary", instance=name, metadata_resource=resource))

    # ---- calls

    def patch(self, settings: Mapping[str, Any]) -> None:
        """Change settings of the managed instance group, those named only."""
        self.order(_MIGS, "patch_unary", instance_group_manager_resource=dict(settings))

    def _order(self, verb: str, resource: Mapping[str, Any], **more: Any) -> None:
        field = f"instance_group_managers_{verb}_request_resource"
        self.order(_MIGS, f"{verb}_unary", **{field: dict(resource)}, **more)

    def order(self, kind: str, method: str, **fields: Any) -> None:
        """One call that writes to the group, over when its operation is."""
        self._done(self._call(kind, method, instance_group_manager=self.options.mig, **fields))

    def order_global(self, kind: str, method: str, *, wait: bool = True, **fields: Any) -> None:
        """One call that writes what no zone has, over when its operation is, or when it is begun."""
        operation = self._call(kind, method, **fields)
        if wait:
            self._tools.clients.done(self.options.place, self.where, operation, "GlobalOperations")

    def _done(self, operation: Any) -> None:
        self._tools.clients.done(self.options.place, self.where, operation)

    def _call(self, kind: str, method: str, **fields: Any) -> Any:
        return self._tools.clients.call(self.options.place, self.where, kind, method, **fields)

    def _pages(self, kind: str, method: str, **fields: Any) -> Iterable[Any]:
        return self._tools.clients.pages(self.options.place, self.where, kind, method, **fields)

    def ask(self, kind: str, method: str, **fields: Any) -> Any:
        """One call that reads, for those who examine the group."""
        return self._call(kind, method, **fields)

    def ask_all(self, kind: str, method: str, **fields: Any) -> list[Any]:
        """All items of a call that lists, for those who examine the group."""
        return list(self._pages(kind, method, **fields))

    def ask_by_page(self, kind: str, method: str, **fields: Any) -> Iterator[list[Any]]:
        """Items of a call that lists, page by page as they are wanted."""
        return self._tools.clients.answers(self.options.place, self.where, kind, method, **fields)

    @property
    def base(self) -> str:
        """What names of its machines begin with."""
        return str(self.settings().base_instance_name).split("#")[0].rstrip("-")

    def _each(self, names: Sequence[str], do: Any) -> list[Any]:
        """`do` of each name, some at a time."""
        if len(names) < 2:
            return [do(n) for n in names]
        with ThreadPoolExecutor(min(_THREADS, len(names))) as threads:
            return list(threads.map(do, names))
