"""Real agents for the machines of a fake cloud: each a process of its own, which becomes ready by what it verifies."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Protocol, Self

import preprov
from preprov.testing.local_nodes import end_everything


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


class Hosts(Protocol):
    """A fake whose machines have agents."""

    def run_agents(self) -> None:
        """One round of them, as of now."""
        ...


class Ticking:
    """Lets the agents of a fake go on by themselves, for a clock that moves by itself. Use as a context."""

    def __init__(self, fake: Hosts, every_s: float = 0.2) -> None:
        self._fake, self._every_s = fake, every_s
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
                self._fake.run_agents()
        except BaseException as e:  # told to whoever asks; the fake goes on without agents
            self.failed = e
