"""Notes that a node and its controller leave for each other on the machine itself: tags, metadata, guest attributes.

Where the two cannot reach each other directly, the cloud's own record of the machine is the letter box. The node's
agent writes reports, the controller writes orders; each reads what the other wrote. A value is short (250 characters,
which every cloud allows) and of the base64url alphabet, so a longer message is spread over numbered notes and is whole
or is not read. Standard library only: the agent runs on any node.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from preprov.model.agent import Health, decode_health

PREFIX: Final = "preprov:"
POOL: Final = "preprov:pool"
GROUP: Final = "preprov:group"
TOKEN: Final = "preprov:token"  # noqa: S105
OFFERING: Final = "preprov:offering"
CREATED: Final = "preprov:created-at"
EXPIRES: Final = "preprov:expires-at"
CAME_FROM: Final = "preprov:came-from"
DRAIN: Final = "preprov:drain"
FENCE: Final = "preprov:fence"
REPORT: Final = "preprov:report"
PRELOAD: Final = "preprov:preload"
BASELINE: Final = "preprov:baseline"
OWNER: Final = "preprov:owner"
"""Which preprov, by the name of its store, launched a machine or raised a group."""
PROTECTED: Final = "preprov:protected"
"""That a machine is protected from scale-in by us, and not by its owner."""
STARTED: Final = "preprov:started-at"
"""When a kept machine was last told to start: a report that is older is of its earlier run."""
NOTICE: Final = "preprov:notice"
"""From the agent. Value: what is about to happen ("interruption", "rebalance"), "@", when (epoch seconds)."""
CONTROLLER: Final = "preprov:controller"
"""Certificate (DER) of whoever may hand tasks to the machine: a message, `{"certificate": base64}`."""
CALLBACK: Final = "preprov:callback"
"""How the agent may tell once that it is ready: a message, `{"url": …, "pool": …, "token": …}`; empty = not at all."""
SLURM_NODE: Final = "slurm-node"
"""Which node of Slurm the machine is."""
_LONGEST: Final = 250
_MOST: Final = 18
"""Notes one message may take; a machine has room for 50 tags in all."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent says of its node.

    Attributes:
        health: its state; usage and devices are left out.
        ack: the fence it has seen and keeps; "" = none.
        came_from: the standby state its last warming began in, "cold" after the first boot.
        channel: where it takes tasks, `host:port#sha256 of its certificate`; "" = nowhere.
    """

    health: Health
    ack: str = ""
    came_from: str = "cold"
    channel: str = ""

    @property
    def address(self) -> str:
        """Where tasks are handed to it; "" if it takes none."""
        return f"tls://{self.channel}" if "#" in self.channel else ""


def report_notes(report: Report) -> dict[str, str]:
    """The report as notes.

    Raises:
        ValueError: it is too long for the notes a machine can carry.
    """
    tasks = tuple(replace(t, usage=(), log="", gpus=()) for t in report.health.tasks)
    health = asdict(replace(report.health, tasks=tasks, gpus=None))
    more = {"channel": report.channel} if report.channel else {}
    return spread(REPORT, {"health": health, "ack": report.ack, "came_from": report.came_from, **more})


def read_report(notes: Mapping[str, str]) -> Report | None:
    """The report in these notes; None if there is none, it is not whole, or it is not of our protocol."""
    raw = gather(REPORT, notes)
    if raw is None:
        return None
    try:
        health = decode_health(json.dumps(raw["health"]).encode())
        came_from, channel = str(raw.get("came_from", "cold")), str(raw.get("channel", ""))
        return Report(health, str(raw.get("ack", "")), came_from, channel)
    except (KeyError, TypeError, ValueError):
        return None


def fence(nonce: str, until: float) -> str:
    """Value of the note that forbids the agent to begin tasks up to an instant (epoch seconds)."""
    return f"{nonce}@{until:.0f}"


def fenced(notes: Mapping[str, str], now: float) -> str:
    """The nonce of the fence in force at `now` (epoch seconds); "" if there is none: a fence ends by itself."""
    nonce, _, until = notes.get(FENCE, "").partition("@")
    return nonce if until.isdecimal() and now < float(until) else ""


def spread(name: str, message: Mapping[str, Any]) -> dict[str, str]:
    """A message as notes `name.0`, `name.1`, …; the first says how many there are.

    Raises:
        ValueError: it needs more notes than a machine can carry.
    """
    text = base64.urlsafe_b64encode(zlib.compress(json.dumps(message, separators=(",", ":")).encode(), 9)).decode()
    size = _LONGEST - 4
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    if len(parts) > _MOST:
        raise ValueError(f"{name} needs {len(parts)} notes of {_LONGEST} characters, a machine carries {_MOST}")
    return {f"{name}.{i}": f"{len(parts)}.{part}" if i == 0 else part for i, part in enumerate(parts)}


def gather(name: str, notes: Mapping[str, str]) -> dict[str, Any] | None:
    """Undo `spread`; None if the message is absent or not whole. What an earlier, longer one left is not looked at."""
    count, dot, first = notes.get(f"{name}.0", "").partition(".")
    if not dot or not count.isdecimal():
        return None
    try:
        text = first + "".join(notes[f"{name}.{i}"] for i in range(1, int(count)))
        value = json.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
    except (KeyError, ValueError, zlib.error):
        return None
    return value if isinstance(value, dict) else None


def ours(key: str) -> bool:
    """True for notes that carry messages rather than facts a person would read."""
    return key.startswith((f"{REPORT}.", f"{PRELOAD}.", f"{BASELINE}.", f"{CONTROLLER}.", f"{CALLBACK}."))
