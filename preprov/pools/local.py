"""Real nodes on this machine: each a supervised agent process with a directory as its disk."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from preprov.contracts import Capabilities, Clock, LaunchRequest, NewVolume, Volume
from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NodeBusyError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
)
from preprov.model.nodes import Node, PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.model.time import Timescale
from preprov.pools import agents, local_view
from preprov.pools.local_disk import (
    Json,
    NodeFiles,
    PoolDisk,
    delay_s,
    facts_of,
    merged,
    preload_as_json,
    write_json,
)
from preprov.pools.local_volumes import LocalVolumes

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.5
_HOLD_S: Final = 10.0
_END_S: Final = 20.0
_FORGOTTEN_S: Final = 1.0
"""A node made this long ago whose agent never ran was left by a crash: its launch is finished by whoever looks next."""
_STATES: Final = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED, Standby.COLD})


class LocalProvider:
    """Nodes as processes under `home`, which outlive this object and are found again by scanning their tags.

    Options of a group: `delay` (see `local_disk.delay_s`), `capacity` (nodes this "cloud" has; more are refused),
    `limits` ("rlimit" leaves cgroups alone), `sample_s`, `pass_env` (names of variables tasks see).

    Args:
        home: node disks live under home/nodes.
        clock: instants given to and taken from this object are on it.
        speed: seconds of the clock per wall second; delays are that much shorter.
    """

    name = "local"

    def __init__(self, home: Path, clock: Clock, *, speed: float = 1.0) -> None:
        self._home = Path(home).absolute()
        self._clock = clock
        self._scale = Timescale.between(time.time(), clock.now(), speed)

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """As the contract says; a group has the standby states it declares."""
        declared = pool.group(group).standby_states
        return Capabilities(standby_states=declared & _STATES, chooses_zone=True)

    # ---- what exists

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says.

        As a cloud does with what it has accepted, it finishes launches and ends that a crash cut short. Agents that
        died are started again, unless the node is lost: silent beyond its time to live, and nothing runs there.
        """
        disk = PoolDisk(self._home, pool.name)
        nodes = [n for n in disk.nodes() if n.facts["tags"].get("preprov:pool") == pool.name]
        self._finish_ends(pool, disk, [n for n in nodes if n.over])
        now = time.time()
        forgotten = [n for n in nodes if n.half_made and now - n.facts["created_at"] > _FORGOTTEN_S]
        seen = self._look(nodes)
        out = [local_view.node(s, self._scale, now, pool.node_ttl_s) for s in seen]
        died = [s.files for s, n in zip(seen, out, strict=True) if n is not None and self._worth_reviving(pool, s, now)]
        if died:
            log.warning("agents died and are started again", pool=pool.name, nodes=[n.node_id for n in died])
        problems = self._start_agents(n.path for n in (*forgotten, *died))
        return PoolObservation(pool.name, self._clock.now(), tuple(n for n in out if n is not None), True, problems)

    def _worth_reviving(self, pool: Pool, seen: local_view.Seen, now: float) -> bool:
        n = seen.files
        if n.alive or not n.state or n.standby != Standby.RUNNING:
            return False
        return bool(seen.found) or (now - (n.heartbeat or 0.0)) * self._scale.speed <= pool.node_ttl_s

    def _finish_ends(self, pool: Pool, disk: PoolDisk, over: Sequence[NodeFiles]) -> None:
        if over:
            with disk.locked(wait=False) as ours:
                if ours:
                    self._clear(pool, disk, over)

    def _clear(self, pool: Pool, disk: PoolDisk, nodes: Sequence[NodeFiles]) -> None:
        """Remove what is left of nodes whose agents have ended."""
        for n in nodes:
            disk.note_end(str(n.facts["token"]), n.node_id)
        self._done(pool, agents.run("remove", (n.path for n in nodes)))

    def _look(self, nodes: Sequence[NodeFiles]) -> list[local_view.Seen]:
        awake = [n for n in nodes if n.alive and n.standby == Standby.RUNNING]
        lines = agents.ask_all([n.path for n in awake], "health", timeout=_LOOK_S)
        answers = {n.path: local_view.health(line) for n, line in zip(awake, lines, strict=True)}
        dead = [n.path for n in nodes if not n.alive and n.state and n.standby == Standby.RUNNING]
        found = agents.run("inspect", dead)
        return [
            local_view.Seen(n, answers.get(n.path), tuple(found[n.path]["tasks"]) if n.path in found else None)
            for n in nodes
        ]

    def _start_agents(self, paths: Iterable[Path]) -> tuple[str, ...]:
        """Start agents; returns what went wrong, a line per node."""
        results = agents.run("start", paths)
        return tuple(f"{p.name}: {r['error']}" for p, r in results.items() if r.get("error"))

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says. Killed anywhere in it, the next such call or `observe` goes on from there."""
        disk = PoolDisk(self._home, request.pool.name)
        with disk.locked():
            disk.sweep()
            ids = disk.intent(request)
            new = [i for i in ids if disk.node(i) is None]
            shared = {"gpu_locks": str(self._home / "gpus")}  # nodes of one machine have its devices in common
            for node_id in self._affordable(disk, request, new, some_already=len(new) < len(ids)):
                disk.make(node_id, {**facts_of(request, node_id, self._order(request, node_id)), **shared})
        mine = [n for i in ids if (n := disk.node(i)) is not None and not n.over]
        problems = self._start_agents(n.path for n in mine if n.half_made)
        if problems:
            raise PoolError(f"agents did not start: {'; '.join(problems)}", where=request.pool.name)
        return tuple(n.node_id for n in mine)

    def _affordable(
        self, disk: PoolDisk, request: LaunchRequest, new: Sequence[str], *, some_already: bool
    ) -> Sequence[str]:
        """Those of the nodes wanted that may be made.

        Raises:
            QuotaExceededError, InsufficientCapacityError: none may, and the token has none already.
        """
        if not new:
            return ()
        group = request.pool.group(request.group)
        used = sum(1 for n in disk.nodes() if n.facts["group"] == group.name and n.standby != "ended")
        where = f"{request.pool.name}/{group.name}"
        room = max(min(group.max_nodes, self._machines(request)) - used, 0)
        if room or some_already:
            return new[:room]
        if used >= group.max_nodes:
            raise QuotaExceededError(
                f"the group has {used} nodes, its max_nodes is {group.max_nodes}", where=where, hint="raise max_nodes"
            )
        raise InsufficientCapacityError(
            f"all {used} machines of this group are in use", where=where, hint="try again later, or elsewhere"
        )

    def _machines(self, request: LaunchRequest) -> int:
        """How many machines this "cloud" has for the group."""
        group = request.pool.group(request.group)
        capacity = group.options.get("capacity")
        return int(capacity) if isinstance(capacity, int | float) else group.max_nodes

    def _order(self, request: LaunchRequest, node_id: str) -> Json:
        group = request.pool.group(request.group)
        delay = delay_s(group, Standby.COLD, request.token, node_id, 0)
        return {"serial": 0, "from": "cold", "at": time.time(), "delay_s": delay / self._scale.speed}

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says; a node whose agent died is started again too, and finds its tasks again.

        Where some are missing, the others are started all the same.
        """
        disk = PoolDisk(self._home, pool.name)
        with disk.locked():
            nodes = self._existing(disk, node_ids)
            asleep = [n for n in nodes if n.sleeps]
            dead = [n for n in nodes if not n.alive]
            orders = {n.node_id: self._write_order(pool, n, preload) for n in (*asleep, *dead)}
        problems = [*self._start_agents(n.path for n in dead), *self._wake(asleep, orders)]
        if problems:
            raise PoolError(f"nodes did not start: {'; '.join(problems)}", where=pool.name)
        self._all(disk, pool, node_ids)

    def _write_order(self, pool: Pool, n: NodeFiles, preload: Preload) -> Json:
        """Put into node.json what is to be done next; returns the new node.json.

        An agent that merely died goes on with the order it had.
        """
        facts = {**n.facts, "preload": merged(n.facts["preload"], preload_as_json(preload))}
        if n.standby in (Standby.HIBERNATED, Standby.STOPPED):
            came_from = Standby.HIBERNATED if n.sleeps else Standby.STOPPED
            serial = int(n.facts["warming"]["serial"]) + 1
            group = pool.group(str(facts["group"]))
            delay = delay_s(group, came_from, str(facts["token"]), n.node_id, serial) / self._scale.speed
            facts["warming"] = {"serial": serial, "from": str(came_from), "at": time.time(), "delay_s": delay}
            (n.path / "draining").unlink(missing_ok=True)
        write_json(n.path / "node.json", facts)
        return facts

    def _wake(self, nodes: Sequence[NodeFiles], orders: dict[str, Json]) -> list[str]:
        agents.run("thaw", (n.path for n in nodes))
        problems = []
        for n in nodes:
            facts = orders[n.node_id]
            line = agents.ask(n.path, "resume", order=facts["warming"], preload=facts["preload"])
            error, detail = local_view.refusal(line)
            problems.extend([f"{n.node_id}: {detail}"] if error else [])
        return problems

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says. A sleeping node is left alone; one that cannot is a ConflictError."""
        self._can(pool, Standby.HIBERNATED, node_ids)
        disk = PoolDisk(self._home, pool.name)
        with disk.locked():
            nodes = [n for n in self._all(disk, pool, node_ids) if not n.sleeps]
            dead = [n.node_id for n in nodes if not n.alive]
            if dead:
                raise ConflictError(f"not running: {', '.join(dead)}", where=pool.name, hint="observe again")
            self._hold(pool, nodes)
            for n in nodes:
                self._must(pool, n, agents.ask(n.path, "suspend"))

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says. A stopped node is left alone."""
        self._can(pool, Standby.STOPPED, node_ids)
        disk = PoolDisk(self._home, pool.name)
        with disk.locked():
            nodes = [n for n in self._all(disk, pool, node_ids) if n.alive or n.standby != Standby.STOPPED]
            self._shut(pool, nodes, "stopped")
            self._done(pool, agents.run("settle", (n.path for n in nodes if not n.alive)))

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says. An agent silent beyond its time to live is ended if nothing is found to run there."""
        disk = PoolDisk(self._home, pool.name)
        with disk.locked():
            nodes = self._existing(disk, node_ids)
            self._shut(pool, nodes, "ended")
            self._clear(pool, disk, nodes)

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says; a node that does not answer drains from when it does."""
        for n in self._all(PoolDisk(self._home, pool.name), pool, node_ids):
            (n.path / "draining").touch()
            if n.alive and not n.sleeps:
                agents.ask(n.path, "drain")

    def _shut(self, pool: Pool, nodes: Sequence[NodeFiles], standby: str) -> None:
        """End the agents of idle nodes, or nothing at all.

        Raises:
            NodeBusyError: one runs a task. ConflictError: one does not answer, and not for long enough to be lost.
        """
        alive = [n for n in nodes if n.alive]
        self._idle_without_agent(pool, [n for n in nodes if not n.alive])
        agents.run("thaw", (n.path for n in alive if n.sleeps))
        lost = self._hold(pool, alive)
        agents.run("kill", (n.path for n in lost))
        held = [n for n in alive if n not in lost]
        for n, line in zip(held, agents.ask_all([n.path for n in held], "shutdown", standby=standby), strict=True):
            self._must(pool, n, line)
        disk = PoolDisk(self._home, pool.name)
        _wait(lambda: not any(m.alive for n in alive if (m := disk.node(n.node_id)) is not None), pool.name)

    def _idle_without_agent(self, pool: Pool, dead: Sequence[NodeFiles]) -> None:
        found = agents.run("inspect", (n.path for n in dead))
        busy = {p.name: r["tasks"] for p, r in found.items() if r["tasks"]}
        if busy:
            raise _busy(pool, busy)

    def _hold(self, pool: Pool, nodes: Sequence[NodeFiles]) -> list[NodeFiles]:
        """Have nodes take no task for a moment; returns those that are lost and run nothing.

        Raises:
            NodeBusyError, ConflictError: nothing was done to any of them.
        """
        lines = agents.ask_all([n.path for n in nodes], "hold", seconds=_HOLD_S)
        answers = [(n, *local_view.refusal(line)) for n, line in zip(nodes, lines, strict=True)]
        silent = [n for n, error, _ in answers if error == "silent"]
        now = time.time()
        lost = [n for n in silent if (now - (n.heartbeat or 0.0)) * self._scale.speed > pool.node_ttl_s]
        try:
            self._refuse(pool, answers, lost)
            self._idle_without_agent(pool, lost)
        except PoolError:
            agents.ask_all([n.path for n, error, _ in answers if not error], "release")
            raise
        return lost

    def _refuse(self, pool: Pool, answers: Sequence[tuple[NodeFiles, str, str]], lost: Sequence[NodeFiles]) -> None:
        busy = {n.node_id: [detail] for n, error, detail in answers if error == "busy"}
        if busy:
            raise _busy(pool, busy)
        other = [f"{n.node_id}: {detail}" for n, error, detail in answers if error and n not in lost]
        if other:
            raise ConflictError("; ".join(other), where=pool.name, hint="observe again, then decide again")

    def _must(self, pool: Pool, n: NodeFiles, line: bytes | None) -> None:
        error, detail = local_view.refusal(line)
        if error == "busy":
            raise _busy(pool, {n.node_id: [detail]})
        if error:
            raise ConflictError(f"{n.node_id}: {detail}", where=pool.name, hint="observe again, then decide again")

    def _done(self, pool: Pool, results: dict[Path, dict[str, Any]]) -> None:
        """Loud about what the agent's program could not do."""
        busy = {p.name: r["busy"] for p, r in results.items() if r.get("busy")}
        if busy:
            raise _busy(pool, busy)
        failed = [f"{p.name}: {r['error']}" for p, r in results.items() if r.get("error")]
        if failed:
            raise PoolError("; ".join(failed), where=pool.name)

    # ---- volumes

    def volumes(self, pool: Pool) -> tuple[Volume, ...]:
        """As the contract says."""
        return LocalVolumes(self._home, pool).volumes()

    def create_volume(self, pool: Pool, node: Node, new: NewVolume) -> Volume:
        """As the contract says: a sparse file, not encrypted; InsufficientCapacityError if the disk cannot hold it."""
        return LocalVolumes(self._home, pool).create(node.node_id, new)

    def attach_volume(self, pool: Pool, volume_id: str, node_id: str) -> Volume:
        """As the contract says: linked into the node's folder, as `volumes/NAME`."""
        return LocalVolumes(self._home, pool).attach(volume_id, node_id)

    def detach_volume(self, pool: Pool, volume_id: str, node_id: str) -> None:
        """As the contract says. A task that has it open can go on writing: it is the same file."""
        LocalVolumes(self._home, pool).detach(volume_id, node_id)

    def grow_volume(self, pool: Pool, volume_id: str, gib: float) -> Volume:
        """As the contract says, at once."""
        return LocalVolumes(self._home, pool).grow(volume_id, gib)

    def delete_volume(self, pool: Pool, volume_id: str) -> None:
        """As the contract says."""
        LocalVolumes(self._home, pool).delete(volume_id)

    # ---- which

    def _can(self, pool: Pool, state: Standby, node_ids: Sequence[str]) -> None:
        disk = PoolDisk(self._home, pool.name)
        for name in {str(n.facts["group"]) for n in self._all(disk, pool, node_ids)}:
            if state not in self.capabilities(pool, name).standby_states:
                raise PoolError(
                    f"group {name} keeps no {state} nodes", where=pool.name, hint=f"add {state} to its states"
                )

    def _existing(self, disk: PoolDisk, node_ids: Sequence[str]) -> list[NodeFiles]:
        return [n for i in dict.fromkeys(node_ids) if (n := disk.node(i)) is not None]

    def _all(self, disk: PoolDisk, pool: Pool, node_ids: Sequence[str]) -> list[NodeFiles]:
        nodes = self._existing(disk, node_ids)
        missing = sorted(set(node_ids) - {n.node_id for n in nodes})
        if missing:
            raise NotFoundError(f"no such node: {', '.join(missing)}", where=pool.name)
        return nodes


def _busy(pool: Pool, tasks: dict[str, Any]) -> NodeBusyError:
    text = "; ".join(f"{node} runs {', '.join(map(str, running))}" for node, running in tasks.items())
    return NodeBusyError(text, where=pool.name, hint="drain it; it can be ended when its work has ended")


def _wait(over: Callable[[], bool], where: str) -> None:
    """Wait for something on this machine that takes milliseconds.

    Raises:
        PoolError: it did not come.
    """
    until = time.monotonic() + _END_S
    while not over():
        if time.monotonic() > until:
            raise PoolError(f"an agent did not end within {_END_S:g} s", where=where, hint="see agent.log of the node")
        time.sleep(0.003)
