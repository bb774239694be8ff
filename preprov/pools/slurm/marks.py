"""What preprov writes into the `Extra` field of a node of Slurm: whose it is, who asked for it, what becomes of it.

The field is kept by slurmctld over restarts and shown by `scontrol show node`. It is a JSON object; what others keep
there beside ours is left as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from preprov.model.offerings import Standby

_OURS: Final = "preprov"
_PAST: Final = 8


@dataclass(frozen=True)
class Failed:
    """A boot that came to nothing.

    Attributes:
        began, at: epoch seconds: when it was called for, and when it was given up.
        came_from: the state its machine was in. token: of the launch that asked for it; "" = Slurm did by itself.
    """

    began: float
    at: float
    came_from: Standby = Standby.COLD
    token: str = ""

    @classmethod
    def read(cls, raw: object) -> "Failed | None":
        """None of what is none of ours."""
        if not isinstance(raw, Mapping):
            return None
        try:
            came_from = Standby(raw.get("from", Standby.COLD))
            return cls(float(raw["began"]), float(raw["at"]), came_from, str(raw.get("token", "")))
        except (TypeError, ValueError, KeyError):
            return None

    def write(self) -> dict[str, Any]:
        """For the field."""
        told = {"began": round(self.began, 3), "at": round(self.at, 3), "from": str(self.came_from)}
        return {**told, **({"token": self.token} if self.token else {})}


@dataclass(frozen=True)
class Marks:
    """Ours.

    Attributes:
        pool: whose it is; "" = nobody's yet. token: of the launch that asked for it; "" = Slurm did by itself.
        past: tokens of earlier launches of this name, newest first: they never launch it again.
        asked_at: epoch seconds of the order it is warming by. to: the state it is suspended to; None = as configured.
        going_at: epoch seconds of the last order to power it down, or of its SuspendProgram's.
        tags: of the launch. failed: its last boot, if that came to nothing.
        others: what somebody else keeps in the field.
    """

    pool: str = ""
    token: str = ""
    past: tuple[str, ...] = ()
    asked_at: float | None = None
    to: Standby | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    others: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    failed: Failed | None = None
    going_at: float | None = None

    @classmethod
    def read(cls, extra: str) -> "Marks":
        """Of the field's text; one that is no JSON object counts as somebody else's note."""
        try:
            whole = json.loads(extra) if extra else {}
        except ValueError:
            return cls(others={"note": extra})
        if not isinstance(whole, dict):
            return cls(others={"note": extra})
        raw = whole.get(_OURS)
        others = {k: v for k, v in whole.items() if k != _OURS}
        if not isinstance(raw, dict):
            return cls(others=others)
        to, asked, going = raw.get("to"), raw.get("at"), raw.get("going")
        return cls(
            pool=str(raw.get("pool", "")),
            token=str(raw.get("token", "")),
            past=tuple(str(t) for t in raw.get("past", ())),
            asked_at=float(asked) if isinstance(asked, int | float) else None,
            to=Standby(to) if to in set(Standby) else None,
            tags={str(k): str(v) for k, v in dict(raw.get("tags", {})).items()},
            others=others,
            failed=Failed.read(raw.get("failed")),
            going_at=float(going) if isinstance(going, int | float) else None,
        )

    def write(self) -> str:
        """The field's text."""
        raw: dict[str, Any] = {"pool": self.pool, "token": self.token}
        if self.past:
            raw["past"] = list(self.past)
        if self.asked_at is not None:
            raw["at"] = round(self.asked_at, 3)
        if self.to is not None:
            raw["to"] = str(self.to)
        if self.going_at is not None:
            raw["going"] = round(self.going_at, 3)
        if self.tags:
            raw["tags"] = dict(self.tags)
        if self.failed is not None:
            raw["failed"] = self.failed.write()
        return json.dumps({**self.others, _OURS: raw}, separators=(",", ":"))

    def launched(self, pool: str, token: str, at: float, tags: Mapping[str, str]) -> "Marks":
        """After an order to power up under this token."""
        past = tuple(t for t in (self.token, *self.past) if t and t != token)[:_PAST]
        return Marks(pool, token, past, at, None, dict(tags), self.others)

    def woken(self, pool: str, at: float) -> "Marks":
        """After an order to power up that keeps its token."""
        return replace(self, pool=pool, asked_at=at, to=None, failed=None, going_at=None)
