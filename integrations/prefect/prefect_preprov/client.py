"""preprov's HTTP API as a flow needs it: what is asked next is decided here, and asked in a thread or an event loop."""

import hashlib
import json
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import httpx

TIMEOUT_S = 15.0
"""Of any call; waiting for a reservation may take so much longer."""
ASK_S = 30.0
"""How long one call waits; the next one goes on."""
AGAIN_S = 2.0
"""After so long it is asked again where it did not answer."""
OVER = ("released", "expired")
_TRIES = 100
"""Of one run, each with a reservation of its own; the key of a further one is made up."""
_LATER = (408, 425, 429)
_LONGEST = 250


class PreprovError(Exception):
    """preprov refused what it was asked. `status`: of HTTP, 0 = there was no answer."""

    def __init__(self, detail: str, hint: str = "", status: int = 0) -> None:
        super().__init__(f"preprov: {detail}" + (f" ({hint})" if hint else ""))
        self.status = status


class PreprovUnavailable(PreprovError):
    """preprov does not answer now."""


class CapacityTimeout(PreprovError):
    """The reservation was not warm in time; it was given back."""


class ReservationVoid(PreprovError):
    """The reservation expired or was released before it was warm."""


@dataclass(frozen=True)
class Reservation:
    """What is held. `nodes`: of each instance; `waited_s`: how long it took to be warm."""

    reservation_id: str
    pool: str
    nodes: tuple[str, ...]
    waited_s: float
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Wish:
    """What is wanted, and how long one waits for it.

    :param seconds: how long it is held at the most; it is given back earlier, when the code that asked has ended.
    :param timeout: seconds to wait until it is warm.
    :param on_timeout: fail, or go on without it. :param if_unavailable: the same, where preprov does not answer.
    """

    pool: str
    claimant: str
    request: Mapping[str, float]
    count: int = 1
    seconds: float = 3600.0
    timeout: float = 900.0
    priority: int | None = None
    reason: str = ""
    on_timeout: Literal["fail", "continue"] = "fail"
    if_unavailable: Literal["fail", "continue"] = "continue"

    def body(self) -> dict[str, Any]:
        """As it is sent. What is not warm by the time-out is void, even if nobody is left to give it back."""
        body: dict[str, Any] = {
            "pool": self.pool,
            "claimant": short(self.claimant),
            "request": {k: float(v) for k, v in self.request.items() if v},
            "count": self.count,
            "seconds": self.seconds + self.timeout,
            "expires_in": max(self.timeout, 1.0) + TIMEOUT_S,
            "reason": self.reason,
        }
        return body if self.priority is None else {**body, "priority": self.priority}

    def digest(self) -> str:
        """The same for the same request, whoever claims it."""
        body = {k: v for k, v in self.body().items() if k != "claimant"}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def short(name: str) -> str:
    """A name as preprov takes it; of one that is too long the end gives way to a digest of all of it."""
    tail = hashlib.sha256(name.encode()).hexdigest()[:20]
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 21]}~{tail}"


@dataclass(frozen=True)
class Call:
    """One call; `pause`: wait so long before it."""

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    timeout: float = TIMEOUT_S
    pause: float = 0.0


Answer = dict[str, Any] | PreprovUnavailable
Talk = Generator[Call, Answer, "Reservation | None"]


def asking(wish: Wish, key: str) -> Talk:
    """Reserve and wait. Yields calls, takes answers; returns None where the code goes on without a reservation.

    :raises CapacityTimeout, ReservationVoid, PreprovUnavailable: as the wish says. PreprovError: it is refused.
    """
    began = time.monotonic()
    until = began + wish.timeout
    found: Answer = yield Call("POST", "/v1/reservations", {"json": wish.body()}, key)
    for number in range(_TRIES + 1):
        if isinstance(found, PreprovUnavailable) or found["state"] not in OVER:
            break
        after = found["reservation_id"] if number < _TRIES else uuid.uuid4().hex  # that was an earlier try of this run
        again = f"{key}-{after}"[:200]
        found = yield Call("POST", "/v1/reservations", {"json": wish.body()}, again)
    while isinstance(found, PreprovUnavailable):
        if wish.if_unavailable == "continue":
            return None
        if time.monotonic() >= until:
            raise found
        found = yield Call("POST", "/v1/reservations", {"json": wish.body()}, key, pause=AGAIN_S)
    held = found
    while not held["ready"] and held["state"] not in OVER:
        left = until - time.monotonic()
        if left <= 0:
            return (yield from _given_up(wish, held))
        seconds = round(min(left, ASK_S), 3)
        path = f"{_path(held['reservation_id'])}/wait"
        pause = AGAIN_S if isinstance(found, PreprovUnavailable) else 0.0
        call = Call("GET", path, {"params": {"seconds": seconds}}, timeout=TIMEOUT_S + seconds, pause=pause)
        found = yield call
        held = held if isinstance(found, PreprovUnavailable) else found
    if held["ready"]:
        nodes = tuple(n for n in held["nodes"] if n)
        return Reservation(held["reservation_id"], wish.pool, nodes, time.monotonic() - began, held)
    if wish.on_timeout == "continue":
        return None
    why = held.get("reason") or "no reason was given"
    raise ReservationVoid(f"reservation {held['reservation_id']} is {held['state']}: {why}")


def _given_up(wish: Wish, held: Mapping[str, Any]) -> Talk:
    yield releasing(str(held["reservation_id"]), "it was not warm in time")
    if wish.on_timeout == "continue":
        return None
    raise CapacityTimeout(
        f"pool {wish.pool} had no warm room for {wish.claimant} within {wish.timeout:g} s",
        f"`preprov plan show {wish.pool}` says why",
    )


def releasing(reservation_id: str, reason: str) -> Call:
    """Give it back; again changes nothing."""
    return Call("DELETE", _path(reservation_id), {"params": {"reason": reason}})


def _path(reservation_id: str) -> str:
    return f"/v1/reservations/{quote(reservation_id, safe='')}"


def answered(response: httpx.Response) -> Answer:
    """What an answer about a reservation holds. What preprov cannot have said (a page of a proxy's) is no refusal.

    :raises PreprovError: it is a refusal.
    """
    status = response.status_code
    if status in _LATER or response.is_server_error:
        return PreprovUnavailable(f"it does not answer: HTTP {status}", status=status)
    try:
        body = response.json()
    except ValueError:
        body = None
    told = isinstance(body, dict)
    if not told or (response.is_success and not {"reservation_id", "state", "ready", "nodes"} <= set(body)):
        return PreprovUnavailable(f"HTTP {status}, and not as preprov answers", "is this `preprov serve`?")
    if response.is_success:
        return dict(body)
    detail = str(body.get("detail") or f"HTTP {status}")
    raise PreprovError(detail, str(body.get("hint") or ""), status)


def headers(token: str, key: str) -> dict[str, str]:
    """Of a request; `key` makes it safe to send again."""
    found = {"Authorization": f"Bearer {token}"} if token else {}
    return {**found, "Idempotency-Key": key} if key else found
