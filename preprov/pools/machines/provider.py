"""The verbs of a pool provider, the same for every cloud that lends machines by name."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from preprov.contracts import ANOTHER_PREPROV, Capabilities, Clock, LaunchRequest
from preprov.model.errors import ConflictError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.notes import DRAIN, FENCE, OWNER, STARTED, TOKEN
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.pools.machines.bench import bench_pool
from preprov.pools.machines.fence import Fences
from preprov.pools.machines.lender import Lender
from preprov.pools.machines.machine import Heard, Machine, State, node
from preprov.pools.machines.orders import Greeting, launch_notes, more_preload, no_greeting

_SHARED = timedelta(seconds=2)
_KEPT = {Standby.HIBERNATED: State.HIBERNATED, Standby.STOPPED: State.STOPPED}


@dataclass(frozen=True)
class _Found:
    """Machines of one group that were asked for by id."""

    lender: Lender
    machines: Mapping[str, Machine]


class MachineProvider:
    """Nodes as machines of a cloud, found again by asking it; a subclass names the cloud and says who lends them.

    Args:
        clock: instants given to and taken from this object are on it. It must show the same time as the cloud's.
        greeting: further notes of machines that are launched, such as who may hand them tasks.
        owner: name of the store of this preprov, by which it knows its machines from another one's; "" = it has none.
    """

    name = ""

    def __init__(self, clock: Clock, greeting: Greeting = no_greeting, owner: Callable[[], str] = str) -> None:
        self._clock = clock
        self._greeting = greeting
        self._owner = owner
        self._heard = Heard()
        self._fences = Fences(clock, self._heard)
        self._looked: dict[str, tuple[datetime | None, tuple[Machine, ...]]] = {}

    def _lender(self, pool: Pool, group: str) -> Lender:
        """Who lends the machines of that group."""
        raise NotImplementedError

    def _lenders(self, pool: Pool) -> list[Lender]:
        return [self._lender(pool, g.name) for g in pool.groups if g.provider == self.name]

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """As the contract says."""
        return self._lender(pool, group).capabilities()

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; writes nothing."""
        nodes: list[Node] = []
        problems: list[str] = []
        for lender in self._lenders(pool):
            try:
                nodes.extend(self._nodes(lender))
            except PoolError as e:
                problems.append(f"{lender.group.name}: {e}")
        return PoolObservation(pool.name, self._clock.now(), tuple(nodes), not problems, tuple(problems))

    def _nodes(self, lender: Lender) -> list[Node]:
        machines = tuple(lender.machines().values())
        now = self._clock.now()
        self._looked[lender.where] = (now, machines)
        found = (node(lender.pool, lender.group, m, self._heard, now) for m in machines)
        return [n for n in found if n is not None]

    def _just_seen(self, lender: Lender) -> tuple[Machine, ...]:
        """Machines as an observation of the last moments had them, else asked now: a pass looks once."""
        at, machines = self._looked.pop(lender.where, (None, ()))
        if at is not None and timedelta(0) <= self._clock.now() - at <= _SHARED:
            return machines
        return tuple(lender.machines().values())

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says; found by its token first, for clouds remember a request for a while only."""
        lender = self._lender(request.pool, request.group)
        alive = {i: m for i, m in lender.machines().items() if m.state is not State.ENDING}
        made = tuple(i for i, m in alive.items() if m.notes.get(TOKEN) == request.token)
        mine = {OWNER: self._owner()} if self._owner() else {}
        notes = launch_notes(request, self._clock.now(), lender.where) | dict(self._greeting()) | mine
        if made:
            return made if len(made) >= request.count else lender.finish(request, made, notes)
        room = lender.group.max_nodes - len(alive)
        if room < 1:
            raise QuotaExceededError(
                f"group {lender.group.name} is at its {lender.group.max_nodes} nodes",
                where=lender.where,
                hint="raise max_nodes",
            )
        return lender.create(request, min(request.count, room), notes)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says. Where some are missing, the others are started all the same."""
        found, absent = self._find(pool, node_ids)
        for one in found:
            self._start(one, preload)
        self._all_there(pool, absent)

    def _start(self, one: _Found, preload: Preload) -> None:
        asleep = [m for m in one.machines.values() if m.state in (State.HIBERNATED, State.STOPPED)]
        # One that the vendor made to keep was never told what a launch tells.
        fresh = {**self._greeting(), FENCE: None, DRAIN: None, STARTED: self._clock.now().isoformat()}
        told: dict[str, tuple[list[str], dict[str, str | None]]] = {}
        for m in asleep:  # what several are told alike costs one call
            news = {k: v for k, v in fresh.items() if v is None or m.notes.get(k) != v}
            notes: dict[str, str | None] = {**news, **more_preload(m.notes, preload, one.lender.where)}
            told.setdefault(json.dumps(notes, sort_keys=True), ([], notes))[0].append(m.node_id)
        for ids, notes in told.values():
            one.lender.note(ids, notes)
        if asleep:
            one.lender.start(asleep)
        late = [m.node_id for m in one.machines.values() if m.state is State.SLIPPING]
        if late:
            raise ConflictError(
                f"{', '.join(late)} is still going to sleep", where=one.lender.where, hint="the next pass tries again"
            )

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        self._keep(pool, node_ids, Standby.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        self._keep(pool, node_ids, Standby.STOPPED)

    def _keep(self, pool: Pool, node_ids: Sequence[str], state: Standby) -> None:
        found, absent = self._find(pool, node_ids)
        self._all_there(pool, absent)
        for one in found:
            self._can_keep(one, state)
        awake = [_Found(f.lender, {i: m for i, m in f.machines.items() if m.awake}) for f in found]
        self._close(awake, lost_too=False)
        for one in awake:
            if one.machines:
                put = one.lender.hibernate if state is Standby.HIBERNATED else one.lender.stop
                put(list(one.machines.values()))

    def _can_keep(self, one: _Found, state: Standby) -> None:
        """Raises PoolError if the group keeps no such nodes, or a machine is in another kept state."""
        lender = one.lender
        if state not in lender.capabilities().standby_states:
            raise PoolError(
                f"group {lender.group.name} keeps no {state} nodes",
                where=lender.where,
                hint=f"add {state} to its states",
            )
        now = self._clock.now()
        for m in one.machines.values():
            if m.state in (State.HIBERNATED, State.STOPPED) and m.state is not _KEPT[state]:
                raise PoolError(
                    f"{m.node_id} is {m.state} and has to be woken to be {state}", where=lender.where, hint="start it"
                )
            seen = node(lender.pool, lender.group, m, self._heard, now)
            if seen is not None and seen.phase in (Phase.FAILED, Phase.LOST):
                raise ConflictError(f"{m.node_id} is {seen.phase}", where=lender.where, hint="terminate it")

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        found, absent = self._find(pool, node_ids)
        for one in found:
            one.lender.note([i for i, m in one.machines.items() if DRAIN not in m.notes], {DRAIN: "yes"})
        self._all_there(pool, absent)

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says; the agents of serving nodes confirm before any of them is ended.

        A name that is not this pool's is left alone, whoever's it is: only what was seen and fenced is ended.
        """
        found, _ = self._find(pool, node_ids)
        self._close(found, lost_too=True)
        for one in found:
            one.lender.delete(list(one.machines))

    def leave_notes(self, pool: Pool, node_ids: Sequence[str], notes: Mapping[str, str]) -> None:
        """As the contract says."""
        found, _ = self._find(pool, node_ids)
        for one in found:
            one.lender.note(list(one.machines), notes)

    def launched(self, pool: Pool, group: str) -> tuple[str, ...]:
        """Names of a group's machines that a launch of ours made and that run nothing, the youngest first."""
        nodes = [n for n in self._nodes(self._lender(pool, group)) if n.token and not n.is_busy]
        return tuple(n.node_id for n in sorted(nodes, key=lambda n: n.created_at, reverse=True))

    # ---- benches

    def open_bench(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract of `BakesImages` says."""
        pool = bench_pool(request.pool, request.group)
        return self.launch(replace(request, pool=pool, tags={**request.tags, DRAIN: "yes"}))

    def benches(self, pool: Pool, group: str) -> tuple[Node, ...]:
        """As that contract says."""
        return tuple(self._nodes(self._lender(bench_pool(pool, group), group)))

    def close_benches(self, pool: Pool, group: str, node_ids: Sequence[str]) -> None:
        """As that contract says; only what carries a bench's notes is ended."""
        lender = self._lender(bench_pool(pool, group), group)
        there = [i for i, m in lender.machines(node_ids).items() if m.state is not State.ENDING]
        if there:
            lender.delete(there)

    # ---- inside

    def _strangers(self, lender: Lender) -> tuple[str, ...]:
        """Other preprovs that launched machines of the group."""
        owners = {notes.get(OWNER, "") for notes in lender.noted().values()} - {"", self._owner()}
        return tuple(f"{ANOTHER_PREPROV} ({o})" for o in sorted(owners))

    def _close(self, found: Sequence[_Found], *, lost_too: bool) -> None:
        """Fence the machines of each group; if one group refuses, those of all take tasks again."""
        for i, one in enumerate(found):
            try:
                self._fences.close(one.lender, one.machines, lost_too=lost_too)
            except Exception:
                for other in found[:i]:
                    self._fences.open(other.lender, list(other.machines))
                raise

    def _find(self, pool: Pool, node_ids: Sequence[str]) -> tuple[list[_Found], list[str]]:
        """The machines by group, asked now, and the ids that name nothing of this pool."""
        left = list(dict.fromkeys(node_ids))
        out = []
        for lender in self._lenders(pool):
            there = {i: m for i, m in lender.machines(left).items() if m.state is not State.ENDING}
            if there:
                out.append(_Found(lender, there))
            left = [i for i in left if i not in there]
        return out, left

    def _all_there(self, pool: Pool, absent: Sequence[str]) -> None:
        if absent:
            raise NotFoundError(f"no node {', '.join(absent)}", where=pool.name, hint="observe again")
