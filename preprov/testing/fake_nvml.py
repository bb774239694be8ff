"""NVML as a machine with devices of your choice would answer: its functions, its error classes, its answers' fields.

What the machine is like stands in a file that is read at every call, so that it can change under a running agent, which
finds the binding `installed` writes on its path.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

NVML_ERROR_NOT_SUPPORTED: Final = 3
NVML_ERROR_NO_PERMISSION: Final = 4
NVML_ERROR_DRIVER_NOT_LOADED: Final = 9
NVML_ERROR_LIBRARY_NOT_FOUND: Final = 12
NVML_ERROR_GPU_IS_LOST: Final = 15
_GIB: Final = 1024**3
_MODULE: Final = """\
from preprov.testing.fake_nvml import FakeNvml

_nvml = FakeNvml({path!r})
globals().update({{name: getattr(_nvml, name) for name in dir(_nvml) if name.lower().startswith("nvml")}})
"""


class NVMLError(Exception):
    """As the binding raises it: `value` is NVML's code."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@dataclass
class Device:
    """One GPU.

    Attributes:
        used: percent of the time. processes: [pid, bytes of its memory or None].
        errors: name of a function, or "" for all of them -> the code with which it fails.
    """

    uuid: str
    name: str = "Fake A100"
    total: int = 40 * _GIB
    used: int = 0
    mig: int | None = None
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


def write(path: Path, devices: list[Device], init_error: int = 0) -> None:
    """Make the machine such; `init_error` is the code with which NVML does not come up, 0 = it does."""
    part = path.with_name(f".{path.name}")
    part.write_text(json.dumps({"init_error": init_error, "devices": [asdict(d) for d in devices]}))
    part.replace(path)


def installed(folder: Path, path: Path) -> Path:
    """Write a `pynvml` that answers from the file at `path`; put the folder on PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pynvml.py").write_text(_MODULE.format(path=str(path)))
    return folder


class FakeNvml:
    """The binding.

    Args:
        path: of the file that `write` makes.
    """

    NVMLError = NVMLError

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def nvmlInit(self) -> None:
        """Fails where there is no driver."""
        self._devices()

    def nvmlDeviceGetCount(self) -> int:
        """How many."""
        return len(self._devices())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """A handle is the index."""
        self._device("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        """Its name for ever."""
        return str(self._device("nvmlDeviceGetUUID", handle)["uuid"])

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        """What it is; bytes, as of older bindings."""
        return str(self._device("nvmlDeviceGetName", handle)["name"]).encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        """Bytes."""
        return SimpleNamespace(total=self._device("nvmlDeviceGetMemoryInfo", handle)["total"])

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        """[now, after the next reset]; most devices cannot be cut."""
        mode = self._device("nvmlDeviceGetMigMode", handle)["mig"]
        if mode is None:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        return [mode, mode]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        """Percent; not told of a device that is cut."""
        device = self._device("nvmlDeviceGetUtilizationRates", handle)
        if device["mig"]:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=device["used"], memory=0)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        """Who computes there."""
        found = self._device("nvmlDeviceGetComputeRunningProcesses", handle)["processes"]
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in found]

    # ---- the machine

    def _devices(self) -> list[dict[str, Any]]:
        told = json.loads(self._path.read_text())
        if told["init_error"]:
            raise NVMLError(told["init_error"])
        return list(told["devices"])

    def _device(self, call: str, handle: int) -> dict[str, Any]:
        device = self._devices()[handle]
        code = device["errors"].get(call) or device["errors"].get("")
        if code:
            raise NVMLError(int(code))
        return device
