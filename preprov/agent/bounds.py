"""What one running task is limited to within its node, in its own cgroups.

A task that wants more memory than its limit waits for it and is not killed: version 1 stalls it, version 2 slows it
down (memory.high). So a limit may only stand while somebody is there to raise it: each is a lease, and ends by itself.
"""

from pathlib import Path
from typing import Final

from preprov.model.agent import Bounds

PERIOD_US: Final = 100_000
_GIB: Final = 1024**3
_LEAST_QUOTA_US: Final = 1000
_SLACK_BYTES: Final = 8 * 1024**2
_SLACK: Final = 1.02
"""A limit of memory stands so far above what the task cannot give up, however little was asked for."""
_UNLIMITED_BYTES: Final = 1 << 60
_PRESSED: Final = 10.0
"""Per cent of the last ten seconds in which no process of a task got on for want of memory: it stalls."""


def limit(groups: list[Path], cpu: float | None, memory: float | None) -> None:
    """Limit a task to so many cores and GiB; None leaves as it is. Memory stays above what it has in its working set.

    Raises:
        OSError: the kernel refuses: nothing was changed of that resource.
    """
    for group in groups:
        if cpu is not None:
            _limit_cpu(group, max(int(cpu * PERIOD_US), _LEAST_QUOTA_US))
        if memory is not None:
            _limit_memory(group, int(memory * _GIB))


def lift(groups: list[Path]) -> None:
    """Only the node's limits count again."""
    for group in groups:
        if (group / "memory.limit_in_bytes").exists():
            _write(group / "memory.limit_in_bytes", -1)
            _write(group / "memory.oom_control", 0)
        if (group / "cpu.cfs_quota_us").exists():
            _write(group / "cpu.cfs_quota_us", -1)
        for name in ("memory.high", "cpu.max"):
            if (group / name).exists():
                _write(group / name, "max")


def read(groups: list[Path]) -> Bounds:
    """What a task is limited to, and how it fares."""
    can: list[str] = []
    cpu = memory = working_set = None
    throttled_s, stalled = 0.0, False
    for group in groups:
        if _has(group, "cpu.cfs_quota_us", "cpu.max"):
            can.append("cpu")
            cpu, throttled_s = _cpu(group), _throttled_s(group)
        if _has(group, "memory.limit_in_bytes", "memory.high"):
            can.append("memory")
            memory, working_set, stalled = _memory_limit(group), working_set_bytes(group) / _GIB, _stalled(group)
    return Bounds(cpu, memory, working_set, throttled_s, stalled, tuple(can))


def working_set_bytes(group: Path) -> int:
    """Bytes that cannot be taken from a task without taking what it works with: all but file pages not used lately."""
    used = _number(group, "memory.usage_in_bytes", "memory.current")
    stat = _fields(group / "memory.stat")
    return max(used - stat.get("total_inactive_file", stat.get("inactive_file", 0)), 0)


# ---- inside


def _limit_cpu(group: Path, quota_us: int) -> None:
    if (group / "cpu.cfs_quota_us").exists():
        _write(group / "cpu.cfs_period_us", PERIOD_US)
        _write(group / "cpu.cfs_quota_us", quota_us)
    elif (group / "cpu.max").exists():
        _write(group / "cpu.max", f"{quota_us} {PERIOD_US}")


def _limit_memory(group: Path, asked: int) -> None:
    if not _has(group, "memory.limit_in_bytes", "memory.high"):
        return
    size = max(asked, int(working_set_bytes(group) * _SLACK) + _SLACK_BYTES)
    if (group / "memory.limit_in_bytes").exists():
        _write(group / "memory.oom_control", 1)
        _write(group / "memory.limit_in_bytes", size)
    else:
        _write(group / "memory.high", size)


def _cpu(group: Path) -> float | None:
    if (group / "cpu.cfs_quota_us").exists():
        quota = _number(group, "cpu.cfs_quota_us")
        return None if quota < 0 else quota / max(_number(group, "cpu.cfs_period_us"), 1)
    quota_text, _, period = _text(group / "cpu.max").partition(" ")
    return int(quota_text) / int(period or PERIOD_US) if quota_text.isdigit() else None


def _memory_limit(group: Path) -> float | None:
    name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.high"
    text = _text(group / name)
    return int(text) / _GIB if text.isdigit() and int(text) < _UNLIMITED_BYTES else None


def _throttled_s(group: Path) -> float:
    stat = _fields(group / "cpu.stat")
    return stat.get("throttled_time", 0) / 1e9 if "throttled_time" in stat else stat.get("throttled_usec", 0) / 1e6


def _stalled(group: Path) -> bool:
    if (group / "memory.oom_control").exists():
        return _fields(group / "memory.oom_control").get("under_oom", 0) > 0
    for line in _text(group / "memory.pressure").splitlines():
        kind, *values = line.split()
        told = dict(v.split("=", 1) for v in values)
        if kind == "full":
            return float(told.get("avg10", 0)) > _PRESSED
    return False


def _has(group: Path, *names: str) -> bool:
    return any((group / n).exists() for n in names)


def _number(group: Path, *names: str) -> int:
    for name in names:
        text = _text(group / name)
        if text.lstrip("-").isdigit():
            return int(text)
    return 0


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, value: object) -> None:
    with path.open("w") as f:
        f.write(str(value))
