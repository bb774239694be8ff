"""For tests that use real local nodes: nothing of them may stay, however the test ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from preprov.testing.waiting import wait_until


@contextmanager
def cleared(home: Path) -> Iterator[Path]:
    """Give `home` to a test and end all nodes and tasks under it afterwards."""
    try:
        yield home
    finally:
        end_everything(home)


def end_everything(home: Path) -> None:
    """Kill every process of every node under home, running tasks too, and remove their cgroups and directories."""
    asleep = [s.parent for s in (home / "nodes").glob("*/*/state.json") if '"hibernated"' in s.read_text()]
    if asleep:
        command = [sys.executable, "-m", "preprov.agent", "thaw", *map(str, asleep)]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    _kill_all(home)
    for limits in (home / "nodes").glob("*/*/limits.json"):
        for group in json.loads(limits.read_text())["groups"].values():
            _remove_group(Path(group))
    shutil.rmtree(home / "nodes", ignore_errors=True)


def processes(home: Path) -> list[psutil.Process]:
    """Processes that belong to nodes under home: agents by their command line, tasks by their environment."""
    mark = f"{home.absolute()}/nodes/"
    out = []
    for p in psutil.process_iter():
        try:
            if p.pid == os.getpid() or p.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(mark in a for a in p.cmdline()) or p.environ().get("PREPROV_NODE_DIR", "").startswith(mark):
                out.append(p)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return out


def _kill_all(home: Path) -> None:
    def over() -> bool:
        left = processes(home)
        for p in left:
            if psutil.pid_exists(p.pid):
                p.kill()
        return not left

    wait_until(over, what=f"processes under {home} to end", deadline_s=20.0)


def _remove_group(path: Path) -> None:
    """Remove a cgroup of a node and those below it; what a task left running in it is ended."""
    if not path.exists():
        return
    for pid in (path / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    for child in path.iterdir():
        if child.is_dir():
            _remove_group(child)

    def gone() -> bool:
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # its last process is still on its way out
            return False
        return True

    wait_until(gone, what=f"cgroup {path} to be empty")
