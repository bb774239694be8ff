"""Names of processes that hold leases, and whether such a process has died on this machine."""

import os
import socket
from pathlib import Path


def process_name() -> str:
    """This process, told apart from every other: host, PID namespace, pid and start time."""
    return f"{_here()}:{os.getpid()}:{_started(os.getpid())}"


def is_dead(holder: str) -> bool:
    """True only if `holder` is a process of this machine (and PID namespace) that exists no longer.

    A name of another form, or of another machine, may be alive for all one can say.
    """
    here, _, rest = holder.rpartition(":")
    here, _, pid = here.rpartition(":")
    if here != _here() or not pid.isdigit() or not rest.isdigit():
        return False
    return _started(int(pid)) != rest


def _here() -> str:
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "pid:?"
    return f"{socket.gethostname()}:{space}"


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot, "0" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "0"
    state, *fields = stat.rpartition(")")[2].split()
    return "0" if state == "Z" else fields[18]
