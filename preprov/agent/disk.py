"""A node's directory: what is kept there, written so that a crash between any two steps is harmless."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from preprov.model.agent import task_folder

Json: TypeAlias = dict[str, Any]

RUNNING: Final = "running"
HIBERNATED: Final = "hibernated"
STOPPED: Final = "stopped"
ENDED: Final = "ended"


def write_json(path: Path, value: Json, *, durable: bool = True) -> None:
    """Replace the file by the value in one step; if `durable`, it is on the disk before this returns."""
    part = path.with_name(f".{path.name}.{threading.get_native_id()}")
    with part.open("w") as f:
        json.dump(value, f, separators=(",", ":"))
        if durable:
            f.flush()
            os.fsync(f.fileno())
    part.replace(path)


def read_json(path: Path) -> Json | None:
    """What `write_json` wrote; None if the file is absent or not whole."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def erase(folder: Path) -> None:
    """Remove a folder with everything below it, also what was made read-only.

    Raises:
        OSError: some of it cannot be removed.
    """
    import shutil

    try:
        shutil.rmtree(folder)
    except PermissionError:
        for base, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(os.path.join(base, name)):
                    os.chmod(os.path.join(base, name), 0o700)
        shutil.rmtree(folder)


class Lock:
    """An exclusive lock that lives as long as any process that holds its descriptor, and no longer.

    A forked child holds it together with its parent, a program that is executed does not. So "held" says that somebody
    is alive without trusting a process id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self, wait_s: float = 0.0) -> bool:
        """Take it, waiting that long; True if it is ours now."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(fd)
                    return False
                time.sleep(0.005)
            else:
                self._fd = fd
                return True

    def drop(self) -> None:
        """Close our descriptor; others that hold it keep it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def fd(self) -> int:
        """The descriptor, -1 if not ours."""
        return self._fd


def is_held(path: Path) -> bool:
    """True if some process holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class NodeDir:
    """Where everything of one node is.

    node.json is written by whoever launches it; state.json, limits.json and processes.json by the agent.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.facts_file = self.path / "node.json"
        self.state_file = self.path / "state.json"
        self.limits_file = self.path / "limits.json"
        self.processes_file = self.path / "processes.json"
        self.lock_file = self.path / "agent.lock"
        self.socket_file = self.path / "agent.sock"
        self.heartbeat_file = self.path / "heartbeat"
        self.log_file = self.path / "agent.log"
        self.draining_file = self.path / "draining"
        self.tasks = self.path / "tasks"
        self.disk = self.path / "disk"

    @property
    def node_id(self) -> str:
        """The node's id is the name of its directory."""
        return self.path.name

    def facts(self) -> Json:
        """node.json; empty if there is none."""
        return read_json(self.facts_file) or {}

    def state(self) -> Json:
        """state.json; empty if the agent never ran."""
        return read_json(self.state_file) or {}

    def is_alive(self) -> bool:
        """True if the agent, or the process that watches over it, lives (it may be suspended)."""
        return is_held(self.lock_file)

    def task_dirs(self) -> Iterator[Path]:
        """Folders of all task instances this node ever ran."""
        try:
            entries = sorted(os.scandir(self.tasks), key=lambda e: e.name)
        except OSError:
            return
        for entry in entries:
            if entry.is_dir():
                yield Path(entry.path)

    def task_dir(self, claimant: str) -> Path:
        """Folder of one task instance."""
        return self.tasks / task_folder(claimant)
