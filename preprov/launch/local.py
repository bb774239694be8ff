"""Tasks on local nodes: their agents are asked over sockets of this machine."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from preprov.contracts import Clock
from preprov.launch.agents import AgentScheduler
from preprov.model.agent import exchange, task_folder
from preprov.model.errors import NotFoundError
from preprov.model.nodes import Node

_ANSWER_S: Final = 5.0
_SCHEME: Final = "unix:"


class LocalScheduler(AgentScheduler):
    """Runs commands on local nodes; see `AgentScheduler`.

    Args:
        home: where the nodes are (under home/nodes).
        clock: instants given to and taken from this object are on it.
        speed: seconds of the clock per wall second.
    """

    name = "local"

    def __init__(self, home: Path, clock: Clock, *, speed: float = 1.0) -> None:
        super().__init__(clock, speed=speed)
        self._home = Path(home).absolute()

    def logs(self, claimant: str) -> Iterator[str]:
        """As the contract says; if it ran on several nodes, the last one's."""
        found = self._home.glob(f"nodes/*/*/tasks/{task_folder(claimant)}/stdout.log")
        files = sorted(found, key=lambda f: f.stat().st_mtime)
        if not files:
            return
        with files[-1].open(errors="replace") as f:
            for line in f:
                yield line.rstrip("\n")

    def _ask(self, node: Node, verb: str, **arguments: Any) -> dict[str, Any] | None:
        """The agent's answer; None if it did not answer.

        Raises:
            NotFoundError: the node is gone.
        """
        folder = Path(node.address.removeprefix(_SCHEME)).parent
        if not node.address.startswith(_SCHEME) or not (folder / "node.json").exists():
            raise NotFoundError(f"node {node.node_id} is gone", where=node.pool, hint="observe again")
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.settimeout(_ANSWER_S)
                s.connect(f"/proc/self/fd/{at}/agent.sock")  # an address of any length
                with s.makefile("rwb") as stream:
                    reply = json.loads(exchange(stream, verb, **arguments))
        except (OSError, ValueError):
            return None
        finally:
            os.close(at)
        return reply if isinstance(reply, dict) else None
