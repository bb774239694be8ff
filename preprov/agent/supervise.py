"""The supervisor of one task: a small process of its own that outlives the agent and writes down how the task ended."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from preprov.agent import disk, limits, proc
from preprov.agent.disk import Json

CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
NOT_PREPARED: Final = 125
"""Exit codes as shells use them; 125: image or dataset could not be put on the disk."""


def lives(folder: Path, status: Json) -> bool:
    """True if the supervisor or the task itself is alive, whoever asks."""
    return disk.is_held(folder / "lock") or ("ended_at" not in status and proc.is_alive(status.get("process")))


def now(status: Json) -> float:
    """Epoch seconds by the clock as it stood when the task started: it goes on, even where that was put back."""
    began = status.get("started_boot")
    if began is None or (elapsed := proc.since_boot() - began) < 0:  # by another agent, or before a boot
        return time.time()
    return float(status["started_at"] + elapsed)


def started() -> Json:
    """Of a task that starts now, by both clocks."""
    return {"started_at": time.time(), "started_boot": proc.since_boot()}


def run(
    folder: Path, task: Json, bounds: limits.Limits, locks: list[disk.Lock], prepare: Callable[[], dict[str, str]]
) -> int:
    """Run the task to its end. Called in a forked child of the agent; returns the exit code of the supervisor itself.

    Args:
        folder: the task's folder; gets stdout.log and status.json.
        task: as in task.json: claimant, argv, env.
        bounds: limits of the node.
        locks: the task's and those of its devices, held from before task.json was written until status.json says how
            it ended.
        prepare: makes sure of what the task needs on the disk; returns environment variables that say where it is.
    """
    _stand_alone(folder, locks)
    proc.name_me("preprov-task")
    status: Json = {"claimant": task["claimant"], "supervisor": proc.identity(os.getpid()), **started()}
    try:
        env = {**task["env"], **prepare()}
    except Exception as e:  # whatever it was, the task ends with a status that says so
        _say(f"cannot prepare the task: {e}")
        disk.write_json(folder / "status.json", {**status, "ended_at": now(status), "exit_code": NOT_PREPARED})
        return 0
    groups = _groups(bounds, folder)
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(opener)
        _become(task["argv"], env, folder / "work", bounds, groups, gate)
    os.close(gate)
    status |= {"process": proc.identity(child), "limits": bounds.describe(), "groups": [str(g) for g in groups]}
    disk.write_json(folder / "status.json", status)
    os.write(opener, b"go")  # the task begins only when it is on record
    os.close(opener)
    ended = _wait(child, groups, status)
    disk.write_json(folder / "status.json", {**status, **ended})
    for group in groups:
        limits.remove_group(group)
    return 0


def _stand_alone(folder: Path, locks: list[disk.Lock]) -> None:
    """Own session, the log as output, and nothing of the agent's but the task's locks."""
    os.setsid()
    proc.forget_parent([lock.fd for lock in locks])
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(folder / "stdout.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(nothing)
    os.close(out)


def _groups(bounds: limits.Limits, folder: Path) -> list[Path]:
    try:
        return bounds.task_groups(folder.name)
    except OSError as e:
        _say(f"no cgroup of its own: {e}")
        return []


def _become(
    argv: list[str], env: dict[str, str], work: Path, bounds: limits.Limits, groups: list[Path], gate: int
) -> None:
    """Turn into the task's program. Never returns."""
    code = CANNOT_EXECUTE
    try:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if not os.read(gate, 2):  # the supervisor died before it could write down that we exist
            os._exit(CANNOT_EXECUTE)
        bounds.confine(groups)
        os.chdir(work)
        os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell on purpose
    except OSError as e:
        if _is_somewhere(argv[0], env.get("PATH", os.defpath)):
            _say(f"{argv[0]}: {e.strerror}")
        else:  # a folder of PATH that may not be searched would otherwise make it "permission denied"
            code = NOT_FOUND
            _say(f"{argv[0]}: not found")
    finally:
        os._exit(code)


def _wait(child: int, groups: list[Path], status: Json) -> Json:
    """Wait for the task, end what it left behind, and say how it ended and what it used in all."""
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # still a zombie, so its id cannot be another's yet
    ended_at = now(status)
    counted, short = limits.cpu_seconds(groups), limits.out_of_memory(groups)
    faults, disk_ops, io = limits.page_faults(groups), limits.disk_operations(groups), proc.io(child)
    limits.kill_groups(groups)
    proc.send_all((p for p in proc.of_session(child) if p != child), signal.SIGKILL)
    _, code, used = os.wait4(child, 0)
    return {
        "ended_at": ended_at,
        "exit_code": os.waitstatus_to_exitcode(code),
        "out_of_memory": short,
        "used": {
            "cpu_s": counted if counted is not None else used.ru_utime + used.ru_stime,
            "memory_bytes": used.ru_maxrss * 1024,
            "io_bytes": (used.ru_inblock + used.ru_oublock) * 512,
            "faults": faults if faults is not None else used.ru_majflt,
            "reads": io.reads if io else None,
            "writes": io.writes if io else None,
            "disk_ops": disk_ops,
        },
    }


def _is_somewhere(program: str, path: str) -> bool:
    places = [program] if "/" in program else [os.path.join(p, program) for p in path.split(os.pathsep)]
    return any(os.path.lexists(p) for p in places)


def _say(text: str) -> None:
    sys.stderr.write(f"[preprov] {text}\n")
    sys.stderr.flush()
