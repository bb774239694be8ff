"""Staging in the background: a forked child brings the items, the agent goes on answering and shows the progress."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TypeAlias

from preprov.agent import disk, proc
from preprov.agent.disk import Json
from preprov.agent.items import Item
from preprov.agent.server import Loop
from preprov.model.agent import PreloadStatus

_Key: TypeAlias = tuple[str, str]


class Stager:
    """What is, or is to be, on the disk of a node.

    Attributes:
        statuses: (kind, key) -> how far it is.
    """

    def __init__(self, node: disk.NodeDir, loop: Loop) -> None:
        self._node = node
        self._loop = loop
        self._child: list[int] = []
        self._waiting: list[tuple[list[Item], bool, Callable[[], None]]] = []
        self.statuses: dict[_Key, PreloadStatus] = {}

    def stage(self, wanted: Json, *, read_back: bool, again: bool, done: Callable[[], None]) -> None:
        """Bring what is wanted; `done` is called, in the loop, when all of it is verified or has failed.

        Args:
            wanted: the preload as node.json has it.
            read_back: check by reading what was verified before.
            again: check also what this agent has verified itself.
            done: called at the end, at once if there is nothing to do.
        """
        items = []
        for item in Item.all_of(wanted):
            known = self.statuses.get((item.kind, item.key))
            if again or known is None or known.state == "failed":
                self.statuses[(item.kind, item.key)] = PreloadStatus(item.key, item.kind, "waiting")
                items.append(item)
        self._waiting.append((items, read_back, done))
        self._next()

    def stop(self) -> None:
        """End the child; what it was at begins again another time."""
        self._waiting.clear()
        if self._child:
            proc.send_all(proc.tree(self._child[0]), signal.SIGKILL)

    def _next(self) -> None:
        while self._waiting and not self._child:
            items, read_back, done = self._waiting.pop(0)
            if items:
                self._begin(items, read_back, done)
            else:
                done()

    def _begin(self, items: list[Item], read_back: bool, done: Callable[[], None]) -> None:
        out, into = os.pipe2(os.O_CLOEXEC)
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _work(self._node, items, into, read_back)
            except BaseException:  # goes to the log; nothing of the agent may run on in this process
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(into)
        self._child = proc.identity(pid)

        def end() -> None:
            self._child = []
            for item in items:
                status = self.statuses[(item.kind, item.key)]
                if status.state not in ("verified", "failed"):
                    died = replace(status, state="failed", error=f"staging of {item.uri} ended midway")
                    self.statuses[(item.kind, item.key)] = died
            done()
            self._next()

        self._loop.watch(out, self._take, end)

    def _take(self, line: bytes) -> None:
        status = PreloadStatus(**json.loads(line))
        self.statuses[(status.kind, status.key)] = status

    # ---- what came of it

    def problems(self, wanted: Json) -> str:
        """Errors of the items wanted, "" if there are none."""
        found = (self.statuses.get((i.kind, i.key)) for i in Item.all_of(wanted))
        return "; ".join(s.error for s in found if s is not None and s.state == "failed")

    def verified(self) -> list[str]:
        """Digests of images and keys of datasets that are on the disk for sure."""
        return [s.digest if s.kind == "image" else s.key for s in self.statuses.values() if s.state == "verified"]

    def seconds(self, kind: str) -> float:
        """Time the items of a kind took."""
        return sum(s.seconds for s in self.statuses.values() if s.kind == kind)

    def share(self) -> float:
        """Progress over all items, 0 to 1."""
        shares = [_share(s) for s in self.statuses.values()]
        return sum(shares) / len(shares) if shares else 1.0


def _work(node: disk.NodeDir, items: list[Item], into: int, read_back: bool) -> int:
    from preprov.agent.preload import stage  # not needed by the agent itself

    proc.name_me("preprov-stage")
    proc.forget_parent([into])

    def tell(status: PreloadStatus) -> None:
        os.write(into, json.dumps(asdict(status)).encode() + b"\n")

    for item in items:
        stage(node, item, tell, read_back=read_back)
    return 0


def _share(s: PreloadStatus) -> float:
    if s.state == "verified":
        return 1.0
    part = min(s.done_bytes / s.total_bytes, 1.0) if s.total_bytes else 0.0
    return 0.6 + 0.3 * part if s.state == "verifying" else 0.6 * part  # each byte is counted twice: brought, and read
