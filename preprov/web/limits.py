"""How much and how often: request sizes, calls per token, wrong tokens per address."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preprov.web.problems import Problem

_REMEMBERED: Final = 10_000


@dataclass
class Buckets:
    """Token buckets by name: `rate` a second, `burst` at once. The least recently used names are forgotten."""

    rate: float
    burst: float
    now: Callable[[], float] = monotonic
    _levels: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def level(self, name: str) -> float:
        """How many calls are left at once."""
        with self._lock:
            return self._level(name)

    def take(self, name: str) -> float:
        """Take one; returns 0, or after how many seconds there will be one."""
        with self._lock:
            level = self._level(name)
            if level < 1:
                return (1 - level) / self.rate
            self._put(name, level - 1)
            return 0.0

    def _level(self, name: str) -> float:
        level, at = self._levels.get(name, (self.burst, self.now()))
        return min(self.burst, level + (self.now() - at) * self.rate)

    def _put(self, name: str, level: float) -> None:
        self._levels[name] = (level, self.now())
        self._levels.move_to_end(name)
        if len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)


class Throttle:
    """Refuses who asks too often, and who guesses tokens.

    Args:
        rate: calls a second of one token. burst: at once.
        failures: wrong tokens that one address may show at once; it earns one more every ten seconds.
    """

    def __init__(self, rate: float = 50.0, burst: float = 200.0, failures: float = 10.0) -> None:
        self._calls = Buckets(rate, burst)
        self._failures = Buckets(0.1, failures)

    def refuse_if_too_often(self, token_id: str) -> None:
        """Count a call.

        Raises:
            Problem: 429.
        """
        _refuse_for(self._calls.take(token_id), "this token asks too often")

    def refuse_if_guessing(self, address: str) -> None:
        """Look, without counting.

        Raises:
            Problem: 429.
        """
        if self._failures.level(address) < 1:
            _refuse_for(10.0, "too many wrong tokens came from this address")

    def note_failure(self, address: str) -> None:
        """Count a wrong token."""
        self._failures.take(address)


def _refuse_for(seconds: float, what: str) -> None:
    if seconds > 0:
        after = {"Retry-After": str(math.ceil(seconds))}
        raise Problem(429, what, kind="TooOften", hint="wait as long as Retry-After says", headers=after)


class SizeLimit:
    """Refuses bodies above a limit, by their declared length or as they come in."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limit:
            await Problem(413, self._what, hint="send it in parts").answer(scope["path"])(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise HTTPException(413, self._what)
            return message

        await self.app(scope, limited, send)

    @property
    def _what(self) -> str:
        return f"a request may have {self.limit} bytes"
