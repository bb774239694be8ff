"""The tasks of a node: started once each, adopted after a crash of the agent, observed while they run."""

import json
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from preprov.agent import bounds as task_bounds
from preprov.agent import counters, disk, gpus, limits, proc, supervise
from preprov.agent.counters import Counters
from preprov.agent.disk import Json
from preprov.agent.supervise import lives
from preprov.model.agent import Bounds, TaskStatus, Usage

_GIB: Final = 1024**3
_MB: Final = 1e6
_KEPT: Final = 20_000
"""Samples kept for a controller that does not fetch them."""
_ADOPTED_S: Final = 60.0
"""Limits of a task that was found running stand so long, unless they are renewed."""


@dataclass
class Task:
    """One task instance, as on disk and as last measured."""

    folder: Path
    claimant: str
    status: Json = field(default_factory=dict)
    live: bool = True
    measured_at: float = 0.0
    used: Counters = field(default_factory=Counters)
    closed: bool = False
    limited_until: float = 0.0
    top: float = 0.0
    gpus: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Path]:
        """Its cgroups."""
        return [Path(g) for g in self.status.get("groups", ())]

    def message(self, usage: tuple[Usage, ...] = (), bounds: Bounds | None = None) -> TaskStatus:
        """For the controller."""
        s = self.status
        return TaskStatus(
            claimant=self.claimant,
            pid=(s.get("process") or s.get("supervisor") or [0])[0],
            started_at=s.get("started_at", 0.0),
            ended_at=None if self.live else s.get("ended_at"),
            exit_code=None if self.live else s.get("exit_code"),
            log=str(self.folder / "stdout.log"),
            usage=usage,
            limits=s.get("limits", ""),
            bounds=bounds,
            gpus=self.gpus,
            out_of_memory=not self.live and s.get("out_of_memory", False),
        )

    def bounds(self) -> Bounds | None:
        """What it is limited to now, and its largest working set since this was asked last; None if it is over."""
        if not self.live:
            return None
        now = task_bounds.read(self.groups)
        top, self.top = max(self.top, now.working_set or 0.0), 0.0
        return now if now.working_set is None else replace(now, working_set=top)


def live_claimants(node: disk.NodeDir) -> list[str]:
    """Tasks that live on a node, found on disk and in /proc, without its agent."""
    out = []
    for folder in node.task_dirs():
        task = disk.read_json(folder / "task.json")
        if task and lives(folder, disk.read_json(folder / "status.json") or {}):
            out.append(str(task["claimant"]))
    return out


class Tasks:
    """All task instances this node ever ran, by claimant."""

    def __init__(self, node: disk.NodeDir, bounds: limits.Limits, devices: gpus.Gpus) -> None:
        self._node = node
        self._bounds = bounds
        self._gpus = devices
        self._all: dict[str, Task] = {}
        self._samples: deque[tuple[int, str, Usage]] = deque(maxlen=_KEPT)
        self._samples_file = node.path / "samples.jsonl"
        self._acked_file = node.path / "samples.acked"
        self._acked = int((disk.read_json(self._acked_file) or {}).get("seq", 0))
        self._seq = self._acked
        self._kills: dict[str, float] = {}
        self._adopt()

    def _adopt(self) -> None:
        """Find again what a former agent of this node ran, and the samples nobody has fetched."""
        for folder in self._node.task_dirs():
            spec = disk.read_json(folder / "task.json")
            if spec is None:
                continue
            status = disk.read_json(folder / "status.json") or {}
            live = lives(folder, status)
            if status or live:  # else it was about to start when the agent died: it may be started again
                task = self._resumed(folder, spec, status, live)
                self._all[task.claimant] = task
                if not live and not task.closed:
                    self._close(task)
        for seq, claimant, usage in self._stored():
            self._seq = max(self._seq, seq)
            if seq > self._acked:
                self._samples.append((seq, claimant, usage))

    def _resumed(self, folder: Path, spec: Json, status: Json, live: bool) -> Task:
        """A task as its former agent left it: what it used since the last sample is in the next one."""
        known = disk.read_json(folder / "measured.json") or {"at": status.get("started_at", time.time())}
        return Task(
            folder,
            spec["claimant"],
            status,
            live,
            measured_at=known["at"],
            used=Counters.of(known) if "cpu_s" in known else Counters(),
            closed=known.get("closed", False),
            limited_until=proc.since_boot() + _ADOPTED_S,
            gpus=tuple(spec.get("gpus", ())),
        )

    def _stored(self) -> Iterator[tuple[int, str, Usage]]:
        try:
            lines = self._samples_file.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                seq, claimant, values = json.loads(line)
                yield seq, claimant, Usage(**values)
            except (ValueError, TypeError):  # the last line of a crash
                continue

    # ---- questions

    def running(self) -> tuple[TaskStatus, ...]:
        """Instances that run."""
        return tuple(t.message() for t in self._all.values() if t.live)

    @property
    def busy(self) -> bool:
        """True if one runs."""
        return any(t.live for t in self._all.values())

    def knows(self, claimant: str) -> bool:
        """True if this instance runs or ran here."""
        return claimant in self._all

    def report(self, since: int | None) -> tuple[int, list[TaskStatus]]:
        """Everything this node runs or ran, with the samples after `since`, and the number of the last sample.

        `since` says which samples have arrived; None = go on after those last said to have.
        """
        if since is not None and since > self._acked:
            self._acked = since
            disk.write_json(self._acked_file, {"seq": since})
            while self._samples and self._samples[0][0] <= since:
                self._samples.popleft()
            if not self._samples:
                self._samples_file.unlink(missing_ok=True)
        by_claimant: dict[str, list[Usage]] = {}
        for _, claimant, usage in self._samples:
            by_claimant.setdefault(claimant, []).append(usage)
        return self._seq, [t.message(tuple(by_claimant.get(c, ())), t.bounds()) for c, t in self._all.items()]

    # ---- changes

    def start(self, spec: Json, prepare: Callable[[], dict[str, str]], devices: int = 0) -> None:
        """Run an instance nobody has run here; `spec` has claimant, argv, env. It gets so many GPUs to itself.

        Raises:
            NoneFreeError: so many are not free; nothing was begun.
        """
        folder = self._node.task_dir(spec["claimant"])
        (folder / "work").mkdir(parents=True, exist_ok=True)
        lock = disk.Lock(folder / "lock")
        if not lock.take(0.2):
            raise BlockingIOError(f"{spec['claimant']} is being started already")
        held: list[gpus.Held] = []
        try:
            held = self._gpus.take(devices, folder, spec["claimant"])
            env = {**spec["env"], **self._gpus.environment(spec["env"], held)}
            spec = {**spec, "env": env, "gpus": [h.uuid for h in held]}
            disk.write_json(folder / "task.json", spec)
            pid = self._fork(folder, spec, [lock, *(h.lock for h in held)], prepare)
        finally:
            lock.drop()  # the child has it now, and them
            gpus.drop(held)
        status = {"claimant": spec["claimant"], "supervisor": proc.identity(pid), **supervise.started()}
        task = Task(folder, spec["claimant"], status, measured_at=status["started_at"], gpus=tuple(spec["gpus"]))
        self._all[task.claimant] = task

    def _fork(self, folder: Path, spec: Json, locks: list[disk.Lock], prepare: Callable[[], dict[str, str]]) -> int:
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = supervise.run(folder, spec, self._bounds, locks, prepare)
            except BaseException:  # goes to the log; nothing of the agent may run on in this process
                traceback.print_exc()
            finally:
                os._exit(code)
        return pid

    def cancel(self, claimant: str, grace_s: float) -> None:
        """Ask an instance to end, and make it end after the grace. One that does not run is left as it is."""
        task = self._all.get(claimant)
        if task is None or not task.live:
            return
        self.refresh()
        process = task.status.get("process")
        if process and proc.is_alive(process):
            proc.send_all(self._pids(task), signal.SIGTERM)
        elif not process:  # still being prepared
            proc.send_all(proc.tree(task.status["supervisor"][0]), signal.SIGKILL)
        self._kills[claimant] = proc.since_boot() + grace_s

    def limit(self, claimant: str, cpu: float | None, memory: float | None, lease_s: float) -> Bounds | None:
        """Limit an instance, for so long unless it is said again; both None = lift its limits.

        Returns what it is limited to now; None if it does not run here.

        Raises:
            OSError: the kernel refuses.
        """
        task = self._all.get(claimant)
        if task is None or not task.live:
            return None
        if cpu is None and memory is None:
            self._lift(task)
        else:
            task_bounds.limit(task.groups, cpu, memory)
            task.limited_until = proc.since_boot() + lease_s
        return task.bounds()

    def checkpoint(self, claimant: str, number: signal.Signals, grace_s: float) -> bool:
        """Tell an instance to keep what it has, and make it end after the grace; False if it does not run."""
        task = self._all.get(claimant)
        process = task.status.get("process") if task is not None and task.live else None
        if not process or not proc.is_alive(process):
            return False
        if claimant not in self._kills:
            proc.send(process, number)
            self._kills[claimant] = proc.since_boot() + grace_s
        return True

    def _lift(self, task: Task) -> None:
        try:
            task_bounds.lift(task.groups)
        except OSError as e:  # it has ended meanwhile
            sys.stderr.write(f"limits of {task.claimant}: {e}\n")
        task.limited_until = 0.0

    def refresh(self) -> None:
        """Take note of tasks that have come under way or have ended."""
        for task in self._all.values():
            if not task.live:
                continue
            if "process" not in task.status or not disk.is_held(task.folder / "lock"):
                task.status = {**task.status, **(disk.read_json(task.folder / "status.json") or {})}
            if not lives(task.folder, task.status):
                task.status = {**task.status, **(disk.read_json(task.folder / "status.json") or {})}
                self._close(task)
        now = proc.since_boot()
        for task in self._all.values():
            if task.live and 0 < task.limited_until <= now:
                self._lift(task)
        for claimant, due in list(self._kills.items()):
            task = self._all[claimant]
            if not task.live:
                del self._kills[claimant]
            elif now >= due:
                proc.send_all(self._pids(task), signal.SIGKILL)

    def _close(self, task: Task) -> None:
        task.live, task.closed = False, True
        if "ended_at" not in task.status:  # the supervisor was killed too: how it ended is not known
            task.status["ended_at"] = supervise.now(task.status)
            disk.write_json(task.folder / "status.json", task.status)
        for group in task.groups:
            limits.remove_group(group)
        used = task.status.get("used")
        if used:
            # its memory is the peak, so that one between two samples is not missed
            self._sample(task, task.status["ended_at"], Counters.of(used), used["memory_bytes"])

    # ---- observation

    def _pids(self, task: Task) -> list[int]:
        inside = limits.procs(task.groups)
        if inside:
            return inside
        process = task.status.get("process")
        return proc.tree(process[0]) if process and proc.is_alive(process) else []

    def measure(self) -> None:
        """Take one sample of every running task."""
        devices = self._gpus.look() if self.busy else {}
        found = {c: pids for c, t in self._all.items() if t.live and (pids := self._pids(t))}
        networks = counters.own_networks(found)
        for claimant, pids in found.items():
            task = self._all[claimant]
            stats = [s for p in pids if (s := proc.stat(p))]
            if not stats:
                continue
            working_set = task_bounds.read(task.groups).working_set
            task.top = max(task.top, working_set or 0.0)
            self._sample(
                task,
                supervise.now(task.status),
                counters.read(stats, task.groups, networks.get(claimant, {})),
                sum(s.rss for s in stats),
                working_set,
                gpus.used(devices, task.gpus, pids),
            )

    def _sample(
        self,
        task: Task,
        at: float,
        used: Counters,
        memory_bytes: int,
        working_set: float | None = None,
        gpu: tuple[float | None, float | None] = (None, None),
    ) -> None:
        length = at - task.measured_at
        if length <= 0:
            return
        usage = Usage(
            at,
            used.rate("cpu_s", task.used, length),
            memory_bytes / _GIB,
            disk_io=used.rate("io_bytes", task.used, length * _MB),
            network=used.rate("network_bytes", task.used, length * _MB),
            gpu=gpu[0],
            gpu_memory=gpu[1],
            working_set=working_set,
            page_faults=used.rate("faults", task.used, length),
            read_ops=used.rate("reads", task.used, length),
            write_ops=used.rate("writes", task.used, length),
            disk_ops=used.rate("disk_ops", task.used, length),
        )
        task.measured_at, task.used = at, used
        known = {"at": at, **used.as_dict(), "closed": task.closed}
        disk.write_json(task.folder / "measured.json", known, durable=False)
        self._seq += 1
        self._samples.append((self._seq, task.claimant, usage))
        with self._samples_file.open("a") as f:
            f.write(json.dumps([self._seq, task.claimant, asdict(usage)], separators=(",", ":")) + "\n")
