"""Limits of a node and its tasks: cgroup v2 or v1 where this user may write them, else rlimits and CPU affinity.

The agent itself is not limited, only what it runs. With cgroups the whole node can be frozen as one; without, its
processes are stopped one by one.
"""

import math
import os
import resource
import signal
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from preprov.agent import disk, proc

_PERIOD_US: Final = 100_000
_GIB: Final = 1024**3
_TOP: Final = "preprov"


@dataclass
class Limits:
    """How one node is limited. Kept in limits.json, so that others can thaw and remove it.

    Attributes:
        kind: "cgroup2", "cgroup1" or "rlimit".
        groups: v1: controller -> the node's cgroup; v2: "" -> the node's cgroup. Empty for rlimit.
        came_from: the cgroup.procs files to go back to before the groups are removed.
        cpu: cores. memory: GiB. 0 = no limit.
    """

    kind: str
    groups: dict[str, str] = field(default_factory=dict)
    came_from: dict[str, str] = field(default_factory=dict)
    cpu: float = 0.0
    memory: float = 0.0

    @classmethod
    def load(cls, node: disk.NodeDir) -> "Limits":
        """As recorded; plain rlimits if nothing is."""
        raw = disk.read_json(node.limits_file)
        return cls(**raw) if raw else cls("rlimit")

    def save(self, node: disk.NodeDir) -> None:
        """Record it."""
        disk.write_json(node.limits_file, asdict(self))

    def describe(self) -> str:
        """For people: `cgroup1: cpu 4, memory 16 GiB`."""
        amounts = [f"cpu {self.cpu:g}"] * (self.cpu > 0) + [f"memory {self.memory:g} GiB"] * (self.memory > 0)
        return f"{self.kind}: {', '.join(amounts) or 'none'}"

    # ---- the agent

    def enter(self) -> bool:
        """Put the calling process where the whole node can be frozen; False if that is not allowed."""
        home = self.groups["freezer"] if self.kind == "cgroup1" else f"{self.groups['']}/agent"
        return _try_write(Path(home, "cgroup.procs"), os.getpid())

    def leave(self) -> None:
        """Take the calling process out again, so that the groups can be removed."""
        for path in self.came_from.values():
            _try_write(Path(path), os.getpid())

    # ---- one task

    def task_groups(self, name: str) -> list[Path]:
        """The cgroups of one task, made if need be; none without cgroups."""
        parents = [f"{self.groups['']}/tasks"] if self.kind == "cgroup2" else list(self.groups.values())
        out = [Path(p, f"t-{name[-12:]}") for p in parents]
        for path in out:
            path.mkdir(exist_ok=True)
        return out

    def confine(self, groups: list[Path]) -> None:
        """Put the calling process, about to become a task, under the node's limits."""
        for path in groups:
            _write(path / "cgroup.procs", os.getpid())
        if self.kind == "rlimit":
            self._confine_plainly()

    def _confine_plainly(self) -> None:
        if self.memory > 0:
            # DATA counts what is written to; an address space limit would end programs that only reserve much
            size = max(int(self.memory * _GIB), 1)
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            size = size if hard == resource.RLIM_INFINITY else min(size, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        mine = sorted(os.sched_getaffinity(0))
        cores = max(math.ceil(self.cpu), 1)
        if self.cpu > 0 and cores < len(mine):
            first = zlib.crc32(str(os.getppid()).encode())
            os.sched_setaffinity(0, {mine[(first + i) % len(mine)] for i in range(cores)})

    # ---- the whole node

    def freeze(self) -> bool:
        """Suspend every process of the node, the caller too; returns after the thaw. False if there is no freezer."""
        if self.kind == "cgroup1" and "freezer" in self.groups:
            return _try_write(Path(self.groups["freezer"], "freezer.state"), "FROZEN")
        if self.kind == "cgroup2":
            return _try_write(Path(self.groups[""], "cgroup.freeze"), 1)
        return False

    def thaw(self) -> None:
        """Undo `freeze`, from outside."""
        if "freezer" in self.groups:
            _try_write(Path(self.groups["freezer"], "freezer.state"), "THAWED")
        elif "" in self.groups:
            _try_write(Path(self.groups[""], "cgroup.freeze"), 0)

    def remove(self) -> None:
        """Remove the node's cgroups; a group that still has processes stays."""
        for path in self.groups.values():
            remove_group(Path(path))
            _rmdir(Path(path).parent)


def procs(groups: list[Path]) -> list[int]:
    """Processes in the first of these cgroups (a task is in all of its groups)."""
    if not groups:
        return []
    try:
        return [int(p) for p in (groups[0] / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def out_of_memory(groups: list[Path]) -> bool:
    """True if the kernel ended one of the task's processes for want of memory; False too where nobody counts that."""
    for path in groups:
        for name in ("memory.events", "memory.oom_control"):
            try:
                told = dict(line.split() for line in (path / name).read_text().splitlines())
                if int(told.get("oom_kill", 0)) > 0:
                    return True
            except (OSError, ValueError):
                continue
    return False


def cpu_seconds(groups: list[Path]) -> float | None:
    """CPU time the task's cgroups counted, in seconds; None if they do not count it."""
    for path in groups:
        try:
            if (path / "cpuacct.usage").exists():
                return int((path / "cpuacct.usage").read_text()) / 1e9
            if (path / "cpu.stat").exists():
                fields = dict(line.split() for line in (path / "cpu.stat").read_text().splitlines())
                if "usage_usec" in fields:
                    return int(fields["usage_usec"]) / 1e6
        except (OSError, ValueError):
            continue
    return None


def page_faults(groups: list[Path]) -> int | None:
    """Major page faults the task's cgroups counted; None if they do not count them."""
    for path in groups:
        told = _lines(path / "memory.stat")
        for name in ("total_pgmajfault", "pgmajfault"):  # version 1: with groups below; version 2: always so
            if told.get(name, "").isdigit():
                return int(told[name])
    return None


def disk_operations(groups: list[Path]) -> int | None:
    """Reads and writes of disks the task's cgroups counted; None if they do not count them.

    Version 1 counts only where a disk is throttled, and what is written later counts for nobody: it is not asked.
    """
    for path in groups:
        try:
            words = (path / "io.stat").read_text().split()
        except OSError:
            continue
        told = [w.partition("=")[::2] for w in words]
        return sum(int(n) for name, n in told if name in ("rios", "wios") and n.isdigit())
    return None


def _lines(path: Path) -> dict[str, str]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
    except OSError:
        return {}
    return {p[0]: p[1] for p in pairs if len(p) == 2}


def kill_groups(groups: list[Path]) -> None:
    """Kill what is left in a task's cgroups."""
    for _ in range(50):
        left = procs(groups)
        if not left:
            return
        proc.send_all(left, signal.SIGKILL)


def remove_group(path: Path) -> None:
    """Remove a cgroup and those below it, as far as they are empty."""
    try:
        children = [Path(e.path) for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in children:
        remove_group(child)
    _rmdir(path)


def establish(node: disk.NodeDir, cpu: float, memory: float, *, allow: str = "") -> Limits:
    """Make the node's limits as good as this user may, record them, and put the calling process under them.

    Args:
        node: the node.
        cpu: cores; 0 = no limit.
        memory: GiB; 0 = no limit.
        allow: "rlimit" leaves cgroups alone.
    """
    name = f"{node.node_id}-{zlib.crc32(os.fsencode(node.path)):08x}"
    for attempt in () if allow == "rlimit" else (_version2, _version1):
        limits = attempt(name, cpu, memory)
        if limits is not None and limits.enter():
            break
        if limits is not None:
            limits.leave()
            limits.remove()
    else:
        limits = Limits("rlimit")
    limits.cpu, limits.memory = cpu, memory
    limits.save(node)
    return limits


def detect() -> str:
    """The kind of limits this user's nodes get, found by trying."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="preprov-") as folder:
        found = establish(disk.NodeDir(folder), 1.0, 1.0)
        found.leave()
        found.remove()
    return found.kind


def mounts() -> tuple[dict[str, tuple[Path, str]], tuple[Path, str] | None]:
    """Mounted hierarchies: v1 controller -> (mount, root within the hierarchy), and v2 the same or None."""
    v1: dict[str, tuple[Path, str]] = {}
    v2 = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, where = before.split()[3:5]
        if kind == "cgroup2":
            v2 = (Path(where), root)
        elif kind == "cgroup":
            v1.update({c: (Path(where), root) for c in options.split(",")})
    return v1, v2


def _own() -> dict[str, str]:
    """Controller -> this process's cgroup; "" is v2."""
    out = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        out.update(dict.fromkeys(names.split(","), path))
    return out


def _within(mount: tuple[Path, str], path: str) -> Path:
    """Directory of a cgroup under a mount that may show only a part of the hierarchy."""
    where, root = mount
    inside = os.path.relpath(path, root)
    return where if inside.startswith("..") else where / inside


def _version1(name: str, cpu: float, memory: float) -> Limits | None:
    try:
        v1, _ = mounts()
        own = _own()
    except (OSError, ValueError):
        return None
    if not {"cpu", "memory", "freezer"} <= set(v1):
        return None
    limits = Limits("cgroup1")
    try:
        for controller in ("memory", "cpu", "cpuacct", "freezer"):
            if controller not in v1:
                continue
            base = _within(v1[controller], own.get(controller, "/"))
            group = base / _TOP / name
            if str(group) not in limits.groups.values():
                group.mkdir(parents=True, exist_ok=True)
                limits.groups[controller] = str(group)
        limits.came_from["freezer"] = str(_within(v1["freezer"], own.get("freezer", "/")) / "cgroup.procs")
        if memory > 0:
            _write(Path(limits.groups["memory"], "memory.limit_in_bytes"), int(memory * _GIB))
        if cpu > 0:
            group = Path(limits.groups["cpu"])
            _write(group / "cpu.cfs_period_us", _PERIOD_US)
            _write(group / "cpu.cfs_quota_us", max(int(cpu * _PERIOD_US), 1000))
    except OSError:
        limits.remove()
        return None
    return limits


def _version2(name: str, cpu: float, memory: float) -> Limits | None:
    """A delegated place for the node, this process's own cgroup first, then outwards."""
    try:
        _, v2 = mounts()
        if v2 is None:
            return None
        here = _within(v2, _own().get("", "/"))
    except (OSError, ValueError):
        return None
    for base in (here, *here.parents):
        if not base.is_relative_to(v2[0]):
            break
        limits = Limits("cgroup2", {"": str(base / _TOP / name)}, {"": str(here / "cgroup.procs")})
        try:
            _delegate(base, Path(limits.groups[""]), cpu, memory)
        except OSError:
            limits.remove()
            continue
        return limits
    return None


def _delegate(base: Path, group: Path, cpu: float, memory: float) -> None:
    """Make base/preprov/name/{agent,tasks} with cpu and memory handed down.

    Raises:
        OSError: not here.
    """
    (group / "agent").mkdir(parents=True, exist_ok=True)
    (group / "tasks").mkdir(exist_ok=True)
    for path in (base, group.parent, group, group / "tasks"):
        missing = {"cpu", "memory"} - set((path / "cgroup.subtree_control").read_text().split())
        if missing:
            _write(path / "cgroup.subtree_control", " ".join(f"+{c}" for c in sorted(missing)))
        if "io" in (path / "cgroup.controllers").read_text().split():
            _try_write(path / "cgroup.subtree_control", "+io")  # only counted: without it a task runs as well
    _write(group / "tasks" / "memory.max", int(memory * _GIB) if memory > 0 else "max")
    quota = max(int(cpu * _PERIOD_US), 1000) if cpu > 0 else "max"
    _write(group / "tasks" / "cpu.max", f"{quota} {_PERIOD_US}")


def _write(path: Path, value: object) -> None:
    with path.open("w") as f:
        f.write(str(value))


def _try_write(path: Path, value: object) -> bool:
    try:
        _write(path, value)
    except OSError:
        return False
    return True


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return
