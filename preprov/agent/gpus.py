"""Who has which GPU of this machine: each is given to one task at a time, and is free when that task has ended.

A lock per device is held by the supervisor of the task it was given to. So nothing has to be given back, an agent that
starts again finds things as they are, and the nodes of one machine, which share its devices, keep out of each other's
way. Beside each lock lies whose it is: a task whose supervisor was killed keeps its devices for as long as it lives.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprov.agent import disk, nvml
from preprov.agent.counters import total
from preprov.agent.supervise import lives
from preprov.model.agent import Gpu

_GIB: Final = 1024**3
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


class NoneFreeError(Exception):
    """Fewer devices are free than a task asks for."""


@dataclass(frozen=True, slots=True)
class Held:
    """A device that is a task's from now on."""

    uuid: str
    lock: disk.Lock


class Gpus:
    """The devices one agent can give to tasks.

    Args:
        folder: of the locks; the same for all nodes of the machine.
        known: the devices; None = nobody can tell, so that none is given and nothing is seen of them.
    """

    def __init__(self, folder: Path, known: nvml.Nvml | None) -> None:
        self._folder, self._known = folder, known

    @classmethod
    def of(cls, node: disk.NodeDir) -> "Gpus":
        """Those of a node's machine."""
        known, why_not = nvml.opened()
        if known is None:
            sys.stderr.write(f"no GPUs are seen: {why_not}\n")
        return cls(Path(node.facts().get("gpu_locks") or node.path.parent / ".gpus"), known)

    def listed(self) -> tuple[Gpu, ...] | None:
        """All devices and who has them; None = nobody can tell."""
        if self._known is None:
            return None
        return tuple(Gpu(d.uuid, d.name, d.memory, d.state, self._owner(d.uuid)) for d in self._known.devices())

    def environment(self, env: Mapping[str, str], held: Iterable[Held]) -> dict[str, str]:
        """What a task is told: its devices; none, if it has none and says nothing itself, on a node that has some."""
        mine = ",".join(h.uuid for h in held)
        if mine or (self._known is not None and self._known.devices() and VISIBLE not in env):
            return {VISIBLE: mine}
        return {}

    # ---- giving

    def take(self, count: int, folder: Path, claimant: str) -> list[Held]:
        """Give so many to the task in that folder; none where nobody can tell what there is.

        Raises:
            NoneFreeError: fewer are free; nothing was given.
            OSError: the locks cannot be written.
        """
        if count < 1 or self._known is None:
            return []
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held: list[Held] = []
        for device in self._known.devices():
            lock = self._free(device) if len(held) < count else None
            if lock is not None:
                held.append(Held(device.uuid, lock))
        if len(held) < count:
            drop(held)
            there = len(self._known.devices())
            raise NoneFreeError(f"{count} GPUs are asked for, {len(held)} of this machine's {there} are free")
        for h in held:
            disk.write_json(self._record(h.uuid), {"claimant": claimant, "task": str(folder)})
        return held

    def _free(self, device: nvml.Device) -> disk.Lock | None:
        """The lock of a device that can be given now; where somebody else computes it cannot."""
        if self._known is None or device.state != nvml.OK or self._known.read(device.uuid).processes:
            return None
        lock = disk.Lock(self._folder / device.uuid)
        if not lock.take():
            return None
        if self._lives(device.uuid):
            lock.drop()
            return None
        return lock

    def _record(self, uuid: str) -> Path:
        return self._folder / f"{uuid}.json"

    def _lives(self, uuid: str) -> bool:
        """True if the task it was given to last lives."""
        folder = Path((disk.read_json(self._record(uuid)) or {}).get("task", "/nonexistent"))
        return lives(folder, disk.read_json(folder / "status.json") or {})

    def _owner(self, uuid: str) -> str:
        """The task that has it; "" = it is free."""
        if disk.is_held(self._folder / uuid) or self._lives(uuid):
            return str((disk.read_json(self._record(uuid)) or {}).get("claimant", ""))
        return ""

    # ---- seeing

    def look(self) -> dict[str, nvml.Reading]:
        """What each device does now."""
        return {d.uuid: self._known.read(d.uuid) for d in self._known.devices()} if self._known is not None else {}


def drop(held: Iterable[Held]) -> None:
    """Let go of devices, or of this process's hold on what a task was given."""
    for h in held:
        h.lock.drop()


def used(
    readings: Mapping[str, nvml.Reading], mine: Collection[str], pids: Collection[int]
) -> tuple[float | None, float | None]:
    """What a task uses of GPUs, of those it was given and those its processes are seen on.

    Args:
        readings: by device. mine: devices it was given. pids: of the task.

    Returns:
        (devices, GiB): the shares of the time in which they computed, summed, and the memory of its processes. None =
        not known: no device, one that does not tell, or one on which others compute too. Ids of processes are the
        machine's: from within a container of its own the agent does not know its tasks again, and says nothing.
    """
    own = set(pids)
    touched = {u for u, r in readings.items() if own & set(r.processes or ())} | set(mine)
    on = [readings.get(u, nvml.Reading()) for u in touched]
    if not on:
        return None, None
    return total(_share(r, own) for r in on), total(_memory(r, own) for r in on)


def _share(reading: nvml.Reading, own: set[int]) -> float | None:
    if reading.processes is None or set(reading.processes) - own:
        return None
    return reading.share


def _memory(reading: nvml.Reading, own: set[int]) -> float | None:
    if reading.processes is None or (reading.processes and not own & set(reading.processes)):
        return None
    return total(None if b is None else b / _GIB for p, b in reading.processes.items() if p in own)
