"""Real agents for the machines of a fake cloud: each a process of its own, which becomes ready by what it verifies."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final, Self

import preprov
from preprov.contracts import Clock
from preprov.model.time import epoch
from preprov.sim.clock import VirtualClock
from preprov.testing.local_nodes import end_everything

_NETWORKS: Final = range(77, 255)
_CLAIM: Final = ("255.254", 47077)
"""Whoever is bound to this address of a part of loopback has the whole part."""


class Agents:
    """Moves the agents of a fake on, one round at a time. Use as a context; nothing of them stays afterwards.

    Args:
        home: the disks of all machines are below.
        settings: of every node, as the user data would write them.
        settle: a round is over only when no agent is at work on its disk any more: for a clock that a test moves.
    """

    def __init__(self, home: Path, settings: Mapping[str, Any] | None = None, *, settle: bool = True) -> None:
        self.home = home
        self._settings = dict(settings or {})
        self._settle = settle
        self._lock = Lock()
        self._program: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        here = str(Path(preprov.__file__).parent.parent)
        log = (self.home / "rack.log").open("a")
        self._program = subprocess.Popen(
            [sys.executable, "-P", "-m", "preprov.testing.rack", str(self.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": here},
        )
        log.close()
        return self

    def __exit__(self, *_: object) -> None:
        program = self._program
        if program is not None and program.stdin is not None:
            program.stdin.close()
            program.wait(timeout=60)
            if program.stdout is not None:
                program.stdout.close()
        end_everything(self.home)

    def round(self, now: float, machines: Mapping[str, Mapping[str, Any]]) -> None:
        """One round of all machines that are up, at that instant (epoch seconds); see `preprov.testing.rack`.

        Raises:
            RuntimeError: the program that runs them has died; its log is in `home`.
        """
        with self._lock:
            program = self._program
            if program is None or program.stdin is None or program.stdout is None:
                raise RuntimeError("the agents are used outside their context")
            line = {"now": now, "settle": self._settle, "settings": self._settings, "machines": machines}
            program.stdin.write(json.dumps(line) + "\n")
            program.stdin.flush()
            if not program.stdout.readline():
                raise RuntimeError(f"the agents have died: {(self.home / 'rack.log').read_text()[-2000:]}")


class AgentHost:
    """The agents of one fake, moved on with its clock.

    Args:
        clock: of the fake. On a virtual one the agents do a round whenever time has gone on or something was written,
            before the next call is served; else somebody has to let them (`Ticking`).
        agents: None = there are none.
        lock: of the fake's state. racked: all machines, as `preprov.testing.rack` wants them.
    """

    def __init__(
        self,
        clock: Clock,
        agents: Agents | None,
        lock: AbstractContextManager[Any],
        racked: Callable[[], Mapping[str, Mapping[str, str]]],
    ) -> None:
        self._clock, self._agents, self._lock, self._racked = clock, agents, lock, racked
        self._follows = agents is not None and isinstance(clock, VirtualClock)
        self._at: tuple[float, int] = (0.0, -1)
        self._writes = self._addresses = 0
        self._claim: socket.socket | None = None
        self._network = "127.77"
        if agents is not None:
            self._claim, self._network = _own_network()
        self._moving = Lock()

    @property
    def real(self) -> bool:
        """True if there are real agents."""
        return self._agents is not None

    def run(self) -> None:
        """One round of them, as of now."""
        if self._agents is not None:
            with self._lock:
                now, machines = epoch(self._clock.now()), self._racked()
            self._agents.round(now, machines)

    def wrote(self) -> None:
        """A call has written something."""
        self._writes += 1

    def catch_up(self) -> None:
        """A round, unless one is being done, or nothing has happened since the last. Call it without the lock."""
        if not self._follows or not self._moving.acquire(blocking=False):
            return
        try:
            at = (epoch(self._clock.now()), self._writes)
            if at != self._at:
                self._at = at
                self.run()
        finally:
            self._moving.release()

    def next_address(self) -> str:
        """Of a new machine in its private network, which is a part of this machine's loopback."""
        self._addresses += 1
        return f"{self._network}.{self._addresses // 250}.{self._addresses % 250 + 1}"


def _own_network() -> tuple[socket.socket, str]:
    """A part of loopback that no other fake uses, in this process or another, until the socket is let go."""
    for n in _NETWORKS:
        claim = socket.socket()
        try:
            claim.bind((f"127.{n}.{_CLAIM[0]}", _CLAIM[1]))
        except OSError:
            claim.close()
        else:
            return claim, f"127.{n}"
    raise RuntimeError(f"all {len(_NETWORKS)} networks of loopback are taken by other fakes: end what was left running")


class Ticking:
    """Lets the agents of a fake go on by themselves, for a clock that moves by itself. Use as a context."""

    def __init__(self, host: AgentHost, every_s: float = 0.2) -> None:
        self._host, self._every_s = host, every_s
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True, name="agents")
        self.failed: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(self._every_s):
                self._host.run()
        except BaseException as e:  # told to whoever asks; the fake goes on without agents
            self.failed = e
