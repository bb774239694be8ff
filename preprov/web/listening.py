"""Server-sent events: what is so now, then each change, with a sign of life in between; taken up again where it broke.

An event's id says what was told, so that whoever shows it again (`Last-Event-ID`) is told only what differs from it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Annotated, Any, Final

from fastapi import Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from preprov.web.problems import Problem

MEDIA_TYPE: Final = "text/event-stream"
_RETRY_MS: Final = 2_000
_GRACE_S: Final = 60.0
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Server-sent events.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}
"""How the answer is described."""
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="The id of the last event that was received: what it told is not told again.",
    ),
]


@dataclass(frozen=True, slots=True)
class Said:
    """An event. `data`: one line of JSON. `last`: nothing comes after it."""

    event_id: str
    event: str
    data: str
    last: bool = False

    def __str__(self) -> str:
        return f"id: {self.event_id}\nevent: {self.event}\ndata: {self.data}\n\n"


Look = Callable[[str], "Said | None"]
"""What is to be told to somebody who was last told the event of that id ("" = nothing); None = nothing new."""


@dataclass(frozen=True)
class Pace:
    """How long and how often.

    Attributes:
        every_s: between looks. heartbeat_s: between signs of life.
        most_s: after so long the server hangs up, and the client comes back.
        pause: waits.
    """

    every_s: float = 1.0
    heartbeat_s: float = 15.0
    most_s: float = 900.0
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass
class Listeners:
    """How many may listen at once: `most` in all, `of_one` of a tenant.

    A place is given back as a stream ends; one that was never begun is free again once it would have ended.
    """

    most: int = 100
    of_one: int = 20
    now: Callable[[], float] = monotonic
    _until: dict[object, tuple[str, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def enter(self, tenant: str, seconds: float) -> object:
        """Take a place for so long at most; returns its name.

        Raises:
            Problem: 429, there is none.
        """
        place, now = object(), self.now()
        with self._lock:
            self._until = {p: (who, until) for p, (who, until) in self._until.items() if until > now}
            mine = sum(who == tenant for who, _ in self._until.values())
            if len(self._until) >= self.most or mine >= self.of_one:
                what = "this tenant listens" if mine >= self.of_one else "clients listen"
                hint = "ask from time to time instead, or close streams that nobody reads"
                after = {"Retry-After": "30"}
                raise Problem(429, f"too many of {what} already", kind="TooManyListeners", hint=hint, headers=after)
            self._until[place] = (tenant, now + seconds)
        return place

    def leave(self, place: object) -> None:
        """Give a place back."""
        with self._lock:
            self._until.pop(place, None)


def answer(listeners: Listeners, tenant: str, look: Look, last: str | None, pace: Pace) -> StreamingResponse:
    """The answer to somebody who listens.

    Raises:
        Problem: 429, too many do; or what the first look raises.
    """
    first = look(last or "")  # what cannot be seen is an error, and no stream
    place = listeners.enter(tenant, pace.most_s + _GRACE_S)

    async def body() -> AsyncIterator[str]:
        try:
            async for text in stream(look, last or "", pace, first):
                yield text
        finally:
            listeners.leave(place)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), media_type=MEDIA_TYPE, headers=headers)


async def stream(look: Look, last: str, pace: Pace, first: Said | None) -> AsyncIterator[str]:
    """The text of a stream; ends with the last event, after `most_s`, or where looking is refused."""
    began = spoke = monotonic()
    yield f"retry: {_RETRY_MS}\n\n"
    said = first
    while True:
        if said is not None:
            last, spoke = said.event_id, monotonic()
            yield str(said)
        if (said is not None and said.last) or monotonic() - began >= pace.most_s:
            return
        await pace.pause(pace.every_s)
        try:
            said = await run_in_threadpool(look, last)
        except Problem:  # it is no longer theirs to see
            return
        if said is None and monotonic() - spoke >= pace.heartbeat_s:
            spoke = monotonic()
            yield ": still here\n\n"
