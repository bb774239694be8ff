"""What the local provider keeps on disk: a directory per node, and per launch token what was asked for.

Every step is one atomic change, so that a crash between any two leaves something the next call can go on from.
"""

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from preprov.contracts import LaunchRequest
from preprov.model.errors import PoolError
from preprov.model.offerings import CapacityType, LeadTime, Offering, Preload, Standby
from preprov.model.pools import Group
from preprov.model.resources import Resources

Json = dict[str, Any]

_LAUNCHES_KEPT_S = 7 * 86400.0


@dataclass(frozen=True)
class NodeFiles:
    """One node as its files tell it.

    Attributes:
        facts: node.json. state: state.json, empty before the agent first ran.
        alive: its agent's lock is held (it may be suspended). heartbeat: epoch seconds, None if there was none.
    """

    path: Path
    facts: Json
    state: Json
    alive: bool
    heartbeat: float | None

    @property
    def node_id(self) -> str:
        """Its id."""
        return self.path.name

    @property
    def standby(self) -> str:
        """As last noted: running, hibernated, stopped, ended."""
        return str(self.state.get("standby", "running"))

    @property
    def sleeps(self) -> bool:
        """True if it is suspended."""
        return self.alive and self.standby == Standby.HIBERNATED

    @property
    def called(self) -> bool:
        """True if it was stopped and its first process runs again: its agent has yet to note so."""
        order = self.facts["warming"]
        rested = self.standby in (Standby.STOPPED, Standby.HIBERNATED) and order["from"] == Standby.STOPPED
        return self.alive and rested and self.state.get("serial") != order["serial"]

    @property
    def over(self) -> bool:
        """True if it was ended, and only its directory is left."""
        return self.standby == "ended" and not self.alive

    @property
    def half_made(self) -> bool:
        """True if it was made, but its agent has not run yet."""
        return not self.state and not self.alive


class PoolDisk:
    """The directory of one pool: home/nodes/<pool>."""

    def __init__(self, home: Path, pool: str) -> None:
        self.path = home / "nodes" / safe_name(pool)
        self._launches = self.path / ".launches"

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """Only one process changes the set of nodes at a time; yields False if another does and we do not wait.

        Raises:
            PoolError: the directory cannot be written.
        """
        try:
            self._launches.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            hint = "set PREPROV_HOME to a folder you may write"
            raise PoolError(f"cannot write: {e.strerror}", where=str(self.path), hint=hint) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(lock)
            yield False
            return
        try:
            yield True
        finally:
            os.close(lock)

    # ---- nodes

    def nodes(self) -> list[NodeFiles]:
        """All nodes whose making was completed, oldest name first."""
        try:
            names = sorted(e.name for e in os.scandir(self.path) if not e.name.startswith("."))
        except OSError:
            return []
        return [n for name in names if (n := self.node(name)) is not None]

    def node(self, node_id: str) -> NodeFiles | None:
        """One node; None if it does not exist (any more)."""
        path = self.path / node_id
        if node_id != safe_name(node_id) or (facts := read_json(path / "node.json")) is None:
            return None
        try:
            heartbeat = (path / "heartbeat").stat().st_mtime
        except OSError:
            heartbeat = None
        return NodeFiles(path, facts, read_json(path / "state.json") or {}, _is_held(path / "agent.lock"), heartbeat)

    def make(self, node_id: str, facts: Json) -> Path:
        """Make a node's directory with node.json in it, in one step; one that is there is left as it is."""
        path = self.path / node_id
        if path.exists():
            return path
        part = self.path / f".making-{node_id}-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        try:
            for folder in (part, part / "disk", part / "tasks"):
                folder.mkdir(mode=0o700, parents=True)
            write_json(part / "node.json", facts)
            part.rename(path)
        except OSError as e:
            raise PoolError(f"cannot make node {node_id}: {e.strerror}", where=str(self.path)) from e
        return path

    def sweep(self) -> None:
        """Clear away directories that a crash left half made or half removed. Call it while `locked`."""
        for entry in os.scandir(self.path):
            if entry.name.startswith((".making-", ".gone-")) and time.time() - entry.stat().st_mtime > 60:
                shutil.rmtree(entry.path, ignore_errors=True)
        for file in self._launches.glob("*.json"):
            if time.time() - file.stat().st_mtime > _LAUNCHES_KEPT_S:
                intent = read_json(file) or {}
                if not any((self.path / i).exists() for i in intent.get("node_ids", ())):
                    file.unlink(missing_ok=True)

    # ---- launches

    def intent(self, request: LaunchRequest) -> list[str]:
        """Write down what a token asks for, before anything is made, and return the ids its nodes have or will have.

        The ids follow from the token, so that whoever sends it again means the same nodes; those that have ended since
        are left out. Call it while `locked`.
        """
        file = self._file(request.token)
        known = read_json(file)
        if known is None:
            ids = [_node_id(request.group, request.token, i) for i in range(request.count)]
            known = {"token": request.token, "group": request.group, "node_ids": ids, "ended": []}
            write_json(file, known)
        ended = set(known["ended"])
        return [i for i in known["node_ids"][: request.count] if i not in ended]

    def note_end(self, token: str, node_id: str) -> None:
        """A node of that token is ended on purpose: the token never makes it again. Call it while `locked`."""
        file = self._file(token)
        known = read_json(file)
        if known is not None and node_id not in known["ended"]:
            write_json(file, {**known, "ended": [*known["ended"], node_id]})

    def _file(self, token: str) -> Path:
        return self._launches / f"{_hash(token)}.json"


def facts_of(request: LaunchRequest, node_id: str, order: Json) -> Json:
    """node.json of a new node."""
    options = request.pool.group(request.group).options
    mine = {
        "preprov:pool": request.pool.name,
        "preprov:group": request.group,
        "preprov:token": request.token,
        "preprov:node": node_id,
    }
    if request.expires_at is not None:
        mine["preprov:expires-at"] = request.expires_at.isoformat()
    return {
        "node_id": node_id,
        "pool": request.pool.name,
        "group": request.group,
        "token": request.token,
        "created_at": order["at"],
        "tags": {**request.tags, **mine},
        "offering": offering_as_json(request.offering),
        "preload": preload_as_json(request.pool.preload.merged(request.preload)),
        "warming": order,
        **{k: options[k] for k in ("limits", "sample_s", "pass_env") if k in options},
    }


def offering_as_json(o: Offering) -> Json:
    """For node.json."""
    return {
        "instance_type": o.instance_type,
        "capacity": o.capacity.as_dict(),
        "zone": o.zone,
        "capacity_type": str(o.capacity_type),
        "usd_per_hour": o.usd_per_hour,
        "minimum_billing_s": o.minimum_billing_s,
        "overhead": o.overhead.as_dict(),
    }


def offering_from_json(raw: Mapping[str, Any]) -> Offering:
    """Undo `offering_as_json`."""
    return Offering(
        **{
            **raw,
            "capacity": Resources.of(raw["capacity"]),
            "overhead": Resources.of(raw["overhead"]),
            "capacity_type": CapacityType(raw["capacity_type"]),
        }
    )


def preload_as_json(preload: Preload) -> Json:
    """For node.json: paths made absolute, keys kept."""
    return {
        "images": [{"key": i.digest or i.uri, "uri": _absolute(i.uri), "digest": i.digest} for i in preload.images],
        "datasets": [{"key": d.key, "uri": _absolute(d.uri), "sha256": d.sha256} for d in preload.datasets],
    }


def merged(first: Json, second: Json) -> Json:
    """Union of two preloads as JSON, order kept."""
    out: Json = {}
    for kind in ("images", "datasets"):
        both = [*first.get(kind, ()), *second.get(kind, ())]
        out[kind] = list({json.dumps(i, sort_keys=True): i for i in both}.values())
    return out


def delay_s(group: Group, state: Standby, token: str, node_id: str, serial: int) -> float:
    """Seconds that a node of this group takes as a cloud's would: a draw that depends on its arguments only.

    The distribution is `options.delay` (a number; a table with median_s and p95_s; or one of these per standby state),
    else the configured lead time of that state, else none.
    """
    lead = _distribution(group.options.get("delay"), state)
    if lead is None:
        lead = group.lead.get(state)
    if lead is None:
        return 0.0
    seed = hashlib.sha256(f"{token}\x1f{node_id}\x1f{state}\x1f{serial}".encode()).digest()
    return lead.quantile((int.from_bytes(seed[:6], "big") + 0.5) / 2**48)


def _distribution(option: object, state: Standby) -> LeadTime | None:
    if isinstance(option, bool):
        return None if option else LeadTime(0.0, 0.0)
    if isinstance(option, int | float):
        return LeadTime(float(option), float(option))
    if isinstance(option, Mapping):
        if "median_s" in option:
            median = float(option["median_s"])
            return LeadTime(median, float(option.get("p95_s", median)))
        return _distribution(option.get(str(state), 0.0), state)
    return None


def read_json(path: Path) -> Json | None:
    """A JSON object; None if the file is absent or not whole."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Json) -> None:
    """Replace the file in one step, on disk before this returns."""
    part = path.with_name(f".{path.name}.{threading.get_native_id()}")
    with part.open("w") as f:
        json.dump(value, f, indent=1)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def _is_held(path: Path) -> bool:
    """True if some process holds the lock: somebody is alive, without trusting a process id."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _node_id(group: str, token: str, index: int) -> str:
    return f"{safe_name(group)[:24]}-{_hash(f'{token}#{index}')[:10]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def safe_name(name: str) -> str:
    """A name that can be a folder's, distinct for distinct names."""
    text = quote(name, safe="").replace("~", "%7E")
    return "%2E" + text[1:] if text.startswith(".") else text


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())
