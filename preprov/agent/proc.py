"""Processes, read from /proc. One is named by its id and its start time, so that a reused id is never mistaken."""

import functools
import os
import resource
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MOST_FDS: Final = 4096
_MARK: Final = b"PREPROV_NODE_DIR="


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of /proc/<pid>/stat: `started` in clock ticks since boot, `cpu_s` and `faults` with reaped children.

    Attributes:
        faults: major ones. rss: bytes.
    """

    pid: int
    state: str
    ppid: int
    session: int
    faults: int
    cpu_s: float
    started: int
    rss: int


def since_boot() -> float:
    """Seconds since the machine started, those that it slept too; it never goes back, whatever is done to the clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def stat(pid: int) -> Stat | None:
    """The process as it is now; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            text = f.read()
    except OSError:
        return None
    rest = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=rest[0].decode(),
        ppid=int(rest[1]),
        session=int(rest[3]),
        faults=int(rest[9]) + int(rest[10]),
        cpu_s=sum(int(x) for x in rest[11:15]) / _TICK,
        started=int(rest[19]),
        rss=int(rest[21]) * _PAGE,
    )


def identity(pid: int) -> list[int]:
    """[pid, start time], start time 0 if there is no such process."""
    s = stat(pid)
    return [pid, s.started if s else 0]


def is_alive(who: Iterable[int] | None) -> bool:
    """True if exactly this process, named by `identity`, exists and is no zombie."""
    if not who:
        return False
    pid, started = who
    s = stat(pid)
    return s is not None and s.started == started and s.state not in "ZX"


def tree(root: int) -> list[int]:
    """The process and all its descendants that have not been given away to init."""
    out, todo = [], [root]
    while todo:
        pid = todo.pop()
        out.append(pid)
        todo.extend(_children(pid))
    return out


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as f:
                found.extend(int(p) for p in f.read().split())
    except OSError:
        return found
    return found


def everyone() -> list[Stat]:
    """All processes of this machine that can be seen."""
    return [s for name in os.listdir("/proc") if name.isdigit() and (s := stat(int(name)))]


def of_session(session: int) -> list[int]:
    """Processes of a session."""
    return [s.pid for s in everyone() if s.session == session]


@functools.cache
def marked() -> dict[str, list[list[int]]]:
    """Node directory -> processes that carry it in their environment, whatever session they fled to. Looks once."""
    out: dict[str, list[list[int]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                variables = f.read().split(b"\0")
        except OSError:
            continue
        for v in variables:
            if v.startswith(_MARK):
                out.setdefault(os.fsdecode(v.removeprefix(_MARK)), []).append(identity(int(name)))
    return out


@dataclass(frozen=True, slots=True)
class Io:
    """What a process and its reaped children read and wrote: bytes of disks, and calls."""

    disk_bytes: int
    reads: int
    writes: int


def io(pid: int) -> Io | None:
    """Since the process began; None if it may not be seen."""
    try:
        with open(f"/proc/{pid}/io", "rb") as f:
            told = {k: int(v) for k, v in (line.split(b": ") for line in f.read().splitlines())}
        return Io(told[b"read_bytes"] + told[b"write_bytes"], told[b"syscr"], told[b"syscw"])
    except (OSError, KeyError, ValueError):
        return None


def network_of(pid: int | str) -> int | None:
    """Number of the network namespace that a process is in; None if it may not be seen."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def network_bytes(pid: int) -> int | None:
    """Bytes received and sent in the process's network namespace, the loopback apart; None if it may not be seen."""
    try:
        with open(f"/proc/{pid}/net/dev", "rb") as f:
            rows = [line.split(b":") for line in f.read().splitlines()[2:]]
        told = [values.split() for name, values in rows if name.strip() != b"lo"]
        return sum(int(v[0]) + int(v[8]) for v in told)
    except (OSError, ValueError, IndexError):
        return None


def send(who: Iterable[int], number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone."""
    pid, started = who
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel without pidfd: as exact as it gets
        handle = -1
    try:
        s = stat(pid)
        if s is None or s.started != started:
            return False
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except OSError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def send_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes that were found a moment ago; the ones gone since are passed over."""
    for pid in pids:
        send(identity(pid), number)


def name_me(name: str) -> None:
    """Show a short name in ps and top."""
    try:
        with open("/proc/self/comm", "w") as f:
            f.write(name)
    except OSError:
        return


def forget_parent(keep: Iterable[int]) -> None:
    """In a forked child: default signals, and no descriptor of the parent's but 0 to 2 and the ones to keep."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_FDS))
