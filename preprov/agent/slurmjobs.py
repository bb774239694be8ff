"""Jobs of a Slurm whose slurmd runs on this node: their cgroups are found, their limits changed, and given back.

With version 1 they are `slurm*/uid_*/job_J/step_*` under each controller, with version 2 `job_J/step_*` under the scope
of slurmstepd. Slurm limits memory at every level; of cores it makes cpusets, which are left as they are. What a job had
before is on disk: a change is a lease, and its end, asked for or not, puts back what Slurm had set.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprov.agent import bounds, disk, limits, proc
from preprov.model.agent import Bounds

_GIB: Final = 1024**3
_V1: Final = "slurm*/uid_*"
_V2: Final = "system.slice/*slurmstepd.scope"
_MEMORY: Final = ("memory.limit_in_bytes", "memory.max")
_SWAP: Final = "memory.memsw.limit_in_bytes"
_CPU: Final = ("cpu.cfs_quota_us", "cpu.max")
_CPUSETS: Final = ("cpuset.effective_cpus", "cpuset.cpus.effective")
_SLACK: Final = 1.02
_SLACK_BYTES: Final = 8 * 1024**2
_UNLIMITED_BYTES: Final = 1 << 60


class NotThereError(Exception):
    """No cgroup of that job is here."""


class NoRoomError(Exception):
    """The node has not so much, beside what its other jobs may use."""


@dataclass(frozen=True)
class _Job:
    """Its cgroups: controllers (version 2: one of all) -> itself, then all below it, those above first."""

    levels: Mapping[str, tuple[Path, ...]]

    def having(self, *names: str) -> Iterator[Path]:
        """Files of that name, those above first."""
        seen: dict[Path, None] = {}
        for groups in self.levels.values():
            seen |= dict.fromkeys(g / n for g in groups for n in names if (g / n).exists())
        yield from seen

    def top(self, *names: str) -> Path | None:
        """The first of them."""
        return next(self.having(*names), None)


class SlurmJobs:
    """Those that are on this node.

    Args:
        node: the node, where what jobs had before is kept.
        room: its limits: 0 = what the machine has.
        mounts: of cgroups, controller -> folder; "" is version 2.
    """

    def __init__(self, node: disk.NodeDir, room: limits.Limits, mounts: Mapping[str, Path] | None = None) -> None:
        self._file = node.path / "slurm-jobs.json"
        self._cpu = room.cpu or float(os.cpu_count() or 1)
        self._memory = int(room.memory * _GIB) or _machine_bytes()
        self._mounts = _mounts() if mounts is None else mounts
        self._changed: disk.Json = disk.read_json(self._file) or {}

    # ---- seen

    def read(self) -> dict[str, Bounds]:
        """Job -> its limits, and what of them can be changed; one without cgroups is not there."""
        return {job: self._bounds(job, found) for job, found in self._all().items()}

    def _bounds(self, job: str, found: _Job) -> Bounds:
        groups = [f.parent for f in (found.top(*_CPU), found.top(*_MEMORY)) if f is not None]
        now = bounds.read(list(dict.fromkeys(groups)))
        limit = self._memory_limit(found)
        return Bounds(
            cpu=now.cpu,
            memory=None if limit is None else limit / _GIB,
            working_set=now.working_set,
            throttled_s=now.throttled_s,
            stalled=now.stalled,
            can=tuple(k for k, names in (("cpu", _CPU), ("memory", _MEMORY)) if found.top(*names) is not None),
            free=job not in self._changed,
        )

    @staticmethod
    def _memory_limit(found: _Job) -> int | None:
        told = [n for f in found.having(*_MEMORY) if (n := _number(f)) is not None]
        return min(told) if told else None

    def _all(self) -> dict[str, _Job]:
        levels: dict[str, dict[str, tuple[Path, ...]]] = {}
        for controller, mount in self._mounts.items():
            for path in sorted(mount.glob(f"{_V1 if controller else _V2}/job_*")):
                below = tuple(Path(folder) for folder, _, _ in os.walk(path))
                levels.setdefault(path.name.removeprefix("job_"), {})[controller] = below
        jobs = {job: _Job(groups) for job, groups in levels.items()}
        return {job: found for job, found in jobs.items() if found.top(*_CPU, *_MEMORY) is not None}

    # ---- changed

    def limit(self, job: str, cpu: float | None, memory: float | None, lease_s: float) -> Bounds:
        """Let a job use so many cores and GiB, all its steps together; None = as it is. All None = as Slurm had it.

        Raises:
            NotThereError, NoRoomError: nothing was changed. OSError: the kernel refuses.
        """
        every = self._all()
        found = every.get(job)
        if found is None:
            raise NotThereError(f"job {job} has no cgroup here: Slurm's proctrack/cgroup and task/cgroup make them")
        if cpu is None and memory is None:
            self._lift(job, found)
            return self._bounds(job, found)
        if cpu is not None and found.top(*_CPU) is not None:
            self._must_have_cores(found, cpu)
        if memory is not None and found.top(*_MEMORY) is not None:
            self._must_have_memory(job, every, memory)
        self._remember(job, found, lease_s)
        if cpu is not None and (file := found.top(*_CPU)) is not None:
            bounds.limit([file.parent], cpu, None)
        if memory is not None:
            _limit_memory(found, int(memory * _GIB))
        return self._bounds(job, found)

    def _must_have_cores(self, found: _Job, cpu: float) -> None:
        has = [n for f in found.having(*_CPUSETS) if (n := _count(f)) > 0]
        most = min([self._cpu, *has])
        if cpu > most + 1e-9:
            held = "Slurm holds it to" if has and min(has) < self._cpu else "the node has"
            raise NoRoomError(f"{cpu:g} cores: {held} {most:g}")

    def _must_have_memory(self, job: str, every: Mapping[str, _Job], memory: float) -> None:
        others = sum(self._memory_limit(found) or 0 for other, found in every.items() if other != job)
        if memory * _GIB > self._memory - others:
            room, used = self._memory / _GIB, others / _GIB
            raise NoRoomError(f"{memory:.3g} GiB: the node has {room:.3g}, of which its other jobs may use {used:.3g}")

    def refresh(self) -> None:
        """Put back what is not renewed, forget what has ended."""
        if not self._changed:
            return
        every, now = self._all(), proc.since_boot()
        for job, known in list(self._changed.items()):
            if job not in every:
                del self._changed[job]
                self._save()
            elif known["until"] <= now or known["until"] > now + known["lease_s"]:  # or this machine was booted anew
                try:
                    self._lift(job, every[job])
                except OSError as e:  # it uses more than it had: again at the next look
                    sys.stderr.write(f"limits of job {job}: {e}\n")

    def _remember(self, job: str, found: _Job, lease_s: float) -> None:
        """What it has, unless that is a change of ours; steps that are new have what Slurm gave them."""
        known = self._changed.setdefault(job, {"before": {}})
        for file in found.having(*_MEMORY, _SWAP, *_CPU):
            known["before"].setdefault(str(file), file.read_text().strip())
        known["until"], known["lease_s"] = proc.since_boot() + lease_s, lease_s
        self._save()

    def _lift(self, job: str, found: _Job) -> None:
        known = self._changed.get(job)
        if known is None:
            return
        before = {Path(f): text for f, text in known["before"].items() if Path(f).exists()}
        memory = {f: _bytes(text) for f, text in before.items() if f.name in (*_MEMORY, _SWAP)}
        _set_memory(found, memory)
        for file in (f for f in before if f.name in _CPU):
            _write(file, before[file])
        del self._changed[job]
        self._save()

    def _save(self) -> None:
        disk.write_json(self._file, self._changed)


def _limit_memory(found: _Job, asked: int) -> None:
    """Every level has it, so that the least of them is it; what the job works with is not taken from it."""
    top = found.top(*_MEMORY)
    if top is None:
        return
    size = max(asked, int(bounds.working_set_bytes(top.parent) * _SLACK) + _SLACK_BYTES)
    limited = [f for f in found.having(*_MEMORY) if f == top or _number(f) is not None]
    wanted = dict.fromkeys(limited, size)
    for file in list(limited):
        swap = file.parent / _SWAP
        if swap.exists() and (limit := _number(swap)) is not None:
            wanted[swap] = max(size + limit - (_number(file) or limit), size)
    _set_memory(found, wanted)


def _set_memory(found: _Job, wanted: Mapping[Path, int]) -> None:
    """From above where it is more, from below where it is less, and memory with swap never less than without."""
    order = [f for f in found.having(_SWAP, *_MEMORY) if f in wanted]
    more = [f for f in order if wanted[f] > (_number(f) or _UNLIMITED_BYTES)]
    more.sort(key=lambda f: (len(f.parts), f.name != _SWAP))
    less = [f for f in order if f not in more]
    less.sort(key=lambda f: (-len(f.parts), f.name == _SWAP))
    for file in (*more, *less):
        size = wanted[file]
        _write(file, size if size < _UNLIMITED_BYTES else "max" if file.name == "memory.max" else -1)


def _mounts() -> dict[str, Path]:
    v1, v2 = limits.mounts()
    found = {name: v1[name][0] for name in ("memory", "cpu", "cpuset") if name in v1}
    return found | ({"": v2[0]} if v2 is not None else {})


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _number(file: Path) -> int | None:
    """Of a limit; None = there is none."""
    size = _bytes(file.read_text().strip())
    return size if size < _UNLIMITED_BYTES else None


def _bytes(text: str) -> int:
    return int(text) if text.isdigit() else _UNLIMITED_BYTES


def _count(file: Path) -> int:
    """Cores of a list like `0-3,8`."""
    parts = [p.partition("-") for p in file.read_text().strip().split(",") if p]
    return sum(int(last or first) - int(first) + 1 for first, _, last in parts)


def _write(file: Path, value: object) -> None:
    with file.open("w") as f:
        f.write(str(value))
