"""Bring nodes up, watch over their agents, and clear away what is left of them."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from preprov.agent import disk, limits, proc
from preprov.agent.agent import Agent
from preprov.agent.disk import Json
from preprov.agent.suspend import thaw
from preprov.agent.tasks import live_claimants

_UP_S: Final = 20.0
_LOCK_S: Final = 2.0
_GLANCE_S: Final = 0.5
"""Somebody who only looks whether a lock is held has it for less than this."""
_PATIENCE: Final = 8
_LONGEST_LOG: Final = 1 << 20


def start(folders: list[Path]) -> dict[str, str]:
    """Start the agents of these nodes, one after the other out of this one process, each detached from it.

    Returns:
        Folder -> "" or what went wrong. An agent that runs already is left alone.
    """
    waiting = []
    for folder in folders:
        out, into = os.pipe()
        if os.fork() == 0:
            os.close(out)
            os.setsid()
            if os.fork() == 0:
                os._exit(_init(disk.NodeDir(folder), into))
            os._exit(0)
        os.close(into)
        os.wait()
        waiting.append((folder, out))
    results = {}
    for folder, out in waiting:
        said = b""
        while chunk := os.read(out, 4096):
            said += chunk
        os.close(out)
        results[str(folder)] = "" if said == b"up" else said.decode() or "the agent died at once, see agent.log"
    return results


def _init(node: disk.NodeDir, into: int) -> int:
    """The first process of a node: holds its lock, starts its agent, starts it again if it dies by accident."""
    lock = disk.Lock(node.lock_file)
    try:
        # who holds it is the agent; a node that was ended or stopped meanwhile is not to be brought back
        if not lock.take(_GLANCE_S) or not _is_wanted(node):
            os.write(into, b"up")
            return 0
        _detach(node, [lock.fd, into])
        proc.name_me("preprov-init")
        facts = node.facts()
        capacity = facts["offering"]["capacity"]
        bounds = limits.establish(node, capacity["cpu"], capacity["memory"], allow=str(facts.get("limits", "")))
        os.write(into, b"up")
        os.close(into)
    except Exception as e:  # whoever waits is told; there is nothing else to do
        with contextlib.suppress(OSError):
            os.write(into, f"{type(e).__name__}: {e}".encode())
        return 1
    _watch(node, bounds)
    bounds.leave()
    bounds.remove()
    return 0


def _is_wanted(node: disk.NodeDir) -> bool:
    """True if the node is to run: it does, never did, or has been ordered to since it was stopped."""
    state = node.state()
    standby = state.get("standby", disk.RUNNING)
    if standby == disk.ENDED:
        return False
    return bool(standby == disk.RUNNING or state["serial"] != node.facts()["warming"]["serial"])


def _detach(node: disk.NodeDir, keep: list[int]) -> None:
    os.chdir("/")
    os.umask(0o077)
    if node.log_file.exists() and node.log_file.stat().st_size > _LONGEST_LOG:
        node.log_file.replace(node.log_file.with_suffix(".log.1"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(node.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    proc.forget_parent(keep)


def _watch(node: disk.NodeDir, bounds: limits.Limits) -> None:
    """Run the agent until it ends on purpose; give up if it cannot stay up."""
    failures = 0
    while failures < _PATIENCE:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os._exit(_agent(node, bounds))
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return
        failures = 1 if time.monotonic() - began > 60 else failures + 1
        time.sleep(min(0.05 * 2**failures, 5.0))


def _agent(node: disk.NodeDir, bounds: limits.Limits) -> int:
    try:
        proc.name_me("preprov-agent")
        return Agent(node, bounds).run()
    except BaseException:  # goes to the log, and the exit code says that it was no accident of timing
        traceback.print_exc()
        sys.stderr.flush()
        return 1


# ---- of nodes whose agent does not run


def inspect(node: disk.NodeDir) -> Json:
    """What can be seen of a node without its agent."""
    return {"alive": node.is_alive(), "tasks": live_claimants(node)}


def wake(node: disk.NodeDir) -> Json:
    """Thaw."""
    thaw(node)
    return {}


def settle(node: disk.NodeDir) -> Json:
    """Note that a dead, idle node is stopped."""

    def note() -> None:
        disk.write_json(node.state_file, {**node.state(), "standby": disk.STOPPED, "since": time.time()})
        limits.Limits.load(node).remove()

    return _if_over(node, note)


def remove(node: disk.NodeDir) -> Json:
    """Remove a node whose agent has ended and that runs nothing, with everything of it."""
    if not node.path.exists():
        return {}

    def clear() -> None:
        for who in proc.marked().get(str(node.path), ()) if any(node.task_dirs()) else ():
            proc.send(who, signal.SIGKILL)  # what a task left behind and hid
        limits.Limits.load(node).remove()
        gone = node.path.with_name(f".gone-{node.node_id}-{os.getpid()}")
        node.path.rename(gone)
        disk.erase(gone)

    try:
        return _if_over(node, clear)
    except FileNotFoundError:  # a removal that another controller began went on meanwhile
        if node.path.exists():
            raise
        return {}


def kill(node: disk.NodeDir) -> Json:
    """End an agent that does not answer, if nothing runs on the node."""
    tasks = live_claimants(node)
    if tasks:
        return {"busy": tasks}
    thaw(node)
    known = disk.read_json(node.processes_file) or {}
    for name in ("init", "agent"):
        proc.send(known.get(name, [0, 0]), signal.SIGKILL)
    return {}


def _if_over(node: disk.NodeDir, what: Callable[[], None]) -> Json:
    """Do it if no agent lives and no task runs, and keep any from starting meanwhile."""
    lock = disk.Lock(node.lock_file)
    if not lock.take(_LOCK_S):
        return {"error": "its agent is alive"}
    try:
        tasks = live_claimants(node)
        if tasks:
            return {"busy": tasks}
        what()
    finally:
        lock.drop()
    return {}


VERBS: Final[dict[str, Callable[[disk.NodeDir], Json]]] = {
    "inspect": inspect,
    "thaw": wake,
    "settle": settle,
    "remove": remove,
    "kill": kill,
}


def main(argv: list[str]) -> int:
    """`python -m preprov.agent start|inspect|thaw|settle|remove|kill FOLDER…`: one JSON object per folder on stdout.

    `limits` says how nodes of this user would be limited, `gpus` which GPUs the machine has; `cloud [FILE]` is a
    node of a cloud: see `cloudnode`; `setup SPEC FILE` prepares one: see `setup`.
    """
    if argv[:1] == ["cloud"]:
        from preprov.agent.cloudnode import main as cloud

        return cloud(argv[1:])
    if argv[:1] == ["setup"] and len(argv) == 3:
        from preprov.agent.setup import main as setup

        return setup(argv[1:])
    if argv == ["limits"]:
        sys.stdout.write(json.dumps({"kind": limits.detect()}) + "\n")
        return 0
    if argv == ["gpus"]:
        from preprov.agent import nvml

        known, why_not = nvml.opened()
        found = None if known is None else [asdict(d) for d in known.devices()]
        sys.stdout.write(json.dumps({"gpus": found, "why_not": why_not}) + "\n")
        return 0
    if len(argv) < 2 or (argv[0] != "start" and argv[0] not in VERBS):
        sys.stderr.write(
            f"usage: python -m preprov.agent {'|'.join(['start', *VERBS])} FOLDER... | cloud [FILE] | setup SPEC FILE\n"
        )
        return 2
    folders = [Path(a).absolute() for a in argv[1:]]
    results: dict[str, Json]
    if argv[0] == "start":
        results = {k: {"error": v} if v else {} for k, v in start(folders).items()}
    else:
        results = {str(f): VERBS[argv[0]](disk.NodeDir(f)) for f in folders}
    sys.stdout.write(json.dumps(results) + "\n")
    return 0
