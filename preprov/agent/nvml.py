"""GPUs as NVIDIA's management library (NVML) tells of them. What it does not tell is absent, never 0.

Its binding is an extra of preprov (`gpu`); on a node it is found where the interpreter has its packages, although the
agent itself runs without them. No binding, no driver and no rights are all the same to a node: it has no GPUs to give.

Source of the calls: NVIDIA, NVML API Reference Guide.
"""

import os
import site
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any, Final

OK: Final = "ok"
LOST: Final = "lost"
MIG: Final = "mig"
_GIB: Final = 1024**3
_GPU_IS_LOST: Final = 15
"""NVML_ERROR_GPU_IS_LOST: it has fallen off the bus; only a reset of the machine brings it back."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU of this machine.

    Attributes:
        memory: GiB; None = not told.
        state: "ok", "lost" (fallen off the bus), "mig" (cut into instances, of which NVML does not tell by process).
    """

    uuid: str
    name: str
    memory: float | None
    state: str = OK


@dataclass(frozen=True, slots=True)
class Reading:
    """What one device does now.

    Attributes:
        share: of the time in which it computed, 0 to 1; None = not told.
        processes: pid -> bytes of its memory, None = not told; None = who computes there may not be seen.
    """

    share: float | None = None
    processes: Mapping[int, int | None] | None = None


def find() -> Any | None:
    """NVIDIA's binding; None if it is not installed."""
    prefixes = [os.path.dirname(os.path.dirname(sys.executable)), sys.prefix]  # an agent starts without site packages
    spec = PathFinder.find_spec("pynvml", [*sys.path, *site.getsitepackages(prefixes)])
    if spec is None or spec.loader is None:
        return None
    module = sys.modules[spec.name] = module_from_spec(spec)  # it looks itself up there while it is loaded
    spec.loader.exec_module(module)
    return module


class Nvml:
    """The devices that were there when it was opened.

    Args:
        library: NVIDIA's binding, or what is like it; initialised.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handles: dict[str, Any] = {}
        self._lost: set[str] = set()
        self._devices = tuple(d for i in range(self._told("", library.nvmlDeviceGetCount) or 0) if (d := self._list(i)))

    def _list(self, index: int) -> Device | None:
        of = self._library
        handle = self._told("", lambda: of.nvmlDeviceGetHandleByIndex(index))
        uuid = _text(self._told("", lambda: of.nvmlDeviceGetUUID(handle))) if handle is not None else ""
        if not uuid:
            return None  # not ours to see, or lost already: it has no name by which it could be given to a task
        self._handles[uuid] = handle
        name = _text(self._told(uuid, lambda: of.nvmlDeviceGetName(handle)))
        memory = self._told(uuid, lambda: int(of.nvmlDeviceGetMemoryInfo(handle).total))
        cut = self._told(uuid, lambda: of.nvmlDeviceGetMigMode(handle)[0])
        return Device(uuid, name, None if memory is None else memory / _GIB, MIG if cut else OK)

    def devices(self) -> tuple[Device, ...]:
        """All of them, with what is known of their state."""
        return tuple(
            Device(d.uuid, d.name, d.memory, LOST) if d.uuid in self._lost else d  # for good: see _GPU_IS_LOST
            for d in self._devices
        )

    def read(self, uuid: str) -> Reading:
        """What a device does; nothing is known of one that is lost or cut into instances."""
        handle, of = self._handles.get(uuid), self._library
        if handle is None or all(d.state != OK for d in self.devices() if d.uuid == uuid):
            return Reading()
        share = self._told(uuid, lambda: of.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0)
        found = self._told(uuid, lambda: of.nvmlDeviceGetComputeRunningProcesses(handle))
        if uuid in self._lost:
            return Reading()
        return Reading(share, None if found is None else {int(p.pid): p.usedGpuMemory for p in found})

    def _told(self, uuid: str, call: Callable[[], Any]) -> Any:
        """What the library answers; None if it does not."""
        try:
            return call()
        except Exception as e:  # whatever a driver says, the node and its tasks go on
            if uuid and getattr(e, "value", None) == _GPU_IS_LOST and uuid not in self._lost:
                self._lost.add(uuid)
                sys.stderr.write(f"{uuid}: the GPU is lost, no task gets it any more\n")
            return None


def opened(binding: Callable[[], Any | None] = find) -> tuple[Nvml | None, str]:
    """The devices of this machine; None and why, if nobody can tell what it has."""
    try:
        library = binding()
        if library is None:
            return None, "the package nvidia-ml-py is not installed"
        library.nvmlInit()
        return Nvml(library), ""
    except Exception as e:  # whatever is wrong with a driver, the node works without
        return None, f"NVML: {e}"


def _text(told: Any) -> str:
    """Older bindings tell bytes."""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told or "")
