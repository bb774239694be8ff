"""`python -m preprov.testing.rack HOME`: the machines of a fake cloud, switched on and off by lines on its input.

A line `{"now": epoch seconds, "settle": bool, "settings": {…}, "machines": {name: {"state", "boot", "cloud",
"metadata", "api"}}}` names all machines there are. One that is "up" does a round of the carrier, with an agent that is
a process of its own; one that is "asleep" hears nothing; one that is "down", or no longer named, has its processes
ended. A line `{"done": seconds}` answers. So a test, or a fake on a clock of its own, decides when an agent looks, and
what the time is then; all else is what runs on a real machine.
"""

import json
import os
import shutil
import signal
import sys
import time
from bisect import bisect_left
from pathlib import Path
from typing import IO, Any, Final

from preprov.agent import boot, disk, limits, proc
from preprov.agent.asking import ask
from preprov.agent.carrier import Carrier, Clocks, settings_of
from preprov.agent.clouds import letterbox
from preprov.agent.disk import Json

_SETTLED_S: Final = 20.0


class Shown:
    """Wall time as the fake's clock shows it: all that happens between two lines happens at the second."""

    def __init__(self) -> None:
        self._walls: list[float] = []
        self._shown: list[float] = []

    def at(self, now: float) -> None:
        """From the line before until now it is `now`."""
        if self._shown and self._shown[-1] == now:
            self._walls.pop()
            self._shown.pop()
        self._walls.append(time.time())
        self._shown.append(now)

    def __call__(self, wall: float) -> float:
        """The instant that was shown."""
        return self._shown[min(bisect_left(self._walls, wall), len(self._shown) - 1)]


class Slot:
    """One machine."""

    def __init__(self, name: str, home: Path, raw: Json, settings: Json, shown: Shown, starter: Any) -> None:
        self.boot = str(raw["boot"])
        self.node = disk.NodeDir(home / "nodes" / name / name)  # each machine has a disk of its own
        box = letterbox(raw["cloud"], raw["metadata"], raw["api"])
        clocks = Clocks(time.time, time.time, time.time(), shown, self.boot)
        mine = settings_of({"home": str(self.node.path.parent), "limits": "rlimit", **settings})
        self.carrier = Carrier(box, mine, clocks, starter)

    def settle(self) -> None:
        """Wait until the agent is not at work on its disk any more."""
        until = time.monotonic() + _SETTLED_S
        while time.monotonic() < until:
            said = ask(self.node.path, "health", 2.0) or {}
            staging = any(p["state"] not in ("verified", "failed") for p in said.get("preload", ()))
            if said.get("phase") != "warming" and not staging:
                return
            time.sleep(0.003)

    def off(self) -> None:
        """The power is cut."""
        self.carrier.close()
        known = disk.read_json(self.node.processes_file) or {}
        ended = [disk.read_json(f / "status.json") or {} for f in self.node.task_dirs()]
        for who in [*known.values(), *(s[k] for s in ended for k in ("supervisor", "process") if k in s)]:
            if proc.is_alive(who):
                proc.send_all(proc.tree(who[0]), signal.SIGKILL)


class Rack:
    """All of them."""

    def __init__(self, home: Path, starter: Any) -> None:
        self._home, self._starter = home, starter
        self._shown = Shown()
        self._slots: dict[str, Slot] = {}

    def line(self, raw: Json) -> None:
        """Do what one line says."""
        self._shown.at(float(raw["now"]))
        machines: dict[str, Json] = raw["machines"]
        for name in list(self._slots):
            if name not in machines:
                slot = self._slots.pop(name)
                slot.off()
                limits.Limits.load(slot.node).remove()
                shutil.rmtree(slot.node.path.parent, ignore_errors=True)
        up = [self._up(n, m, raw.get("settings", {})) for n, m in machines.items() if m["state"] == "up"]
        for name, m in machines.items():
            if name in self._slots and m["state"] == "asleep":
                self._slots[name].carrier.pause()
            elif name in self._slots and m["state"] == "down":
                self._slots[name].off()
        for slot in up:
            slot.carrier.round()
        if raw.get("settle"):
            for slot in up:
                slot.settle()
            self._shown.at(float(raw["now"]))
            for slot in up:
                slot.carrier.round()

    def _up(self, name: str, raw: Json, settings: Json) -> Slot:
        slot = self._slots.get(name)
        if slot is None or slot.boot != raw["boot"]:
            slot = self._slots[name] = Slot(name, self._home, raw, settings, self._shown, self._starter)
        return slot

    def close(self) -> None:
        """The power is cut everywhere."""
        for slot in self._slots.values():
            slot.off()


def _starter() -> Any:
    """A process without threads that starts agents, forked before there are any: far quicker than a program each."""
    there, here = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(there[1])
        os.close(here[0])
        with os.fdopen(there[0]) as orders, os.fdopen(here[1], "w") as answers:
            for line in orders:
                result = boot.start([Path(line.rstrip("\n"))])
                answers.write(json.dumps(next(iter(result.values()))) + "\n")
                answers.flush()
        os._exit(0)
    os.close(there[0])
    os.close(here[1])
    orders, answers = os.fdopen(there[1], "w"), os.fdopen(here[0])

    def start(folder: Path) -> str:
        orders.write(f"{folder}\n")
        orders.flush()
        return str(json.loads(answers.readline()))

    return start


def main(argv: list[str], lines: IO[str] = sys.stdin) -> int:
    """Serve until the input ends."""
    rack = Rack(Path(argv[0]), _starter())
    try:
        for line in lines:
            began = time.monotonic()
            rack.line(json.loads(line))
            sys.stdout.write(json.dumps({"done": round(time.monotonic() - began, 4)}) + "\n")
            sys.stdout.flush()
    finally:
        rack.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
