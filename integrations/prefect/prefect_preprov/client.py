"""preprov's HTTP API as a flow needs it: what is asked next is decided here, and asked in a thread or an event loop."""

import time
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
"""Of one run, each with a reservation of its own."""


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
            "claimant": self.claimant[:250],
            "request": {k: float(v) for k, v in self.request.items() if v},
            "count": self.count,
            "seconds": self.seconds + self.timeout,
            "expires_in": max(self.timeout, 1.0) + TIMEOUT_S,
            "reason": self.reason,
        }
        return body if self.priority is None else {**body, "priority": self.priority}


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
    for _ in range(_TRIES):
        if isinstance(found, PreprovUnavailable) or found["state"] not in OVER:
            break
        again = f"{key}-{found['reservation_id']}"[:200]  # that was an earlier try of this run
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
    """What an answer holds.

    :raises PreprovError: it is a refusal.
    """
    if response.status_code in (429, 502, 503, 504):
        return PreprovUnavailable(f"it does not answer: HTTP {response.status_code}", status=response.status_code)
    try:
        body = response.json()
    except ValueError:
        return PreprovUnavailable(f"its answer is not JSON: HTTP {response.status_code}", "is this `preprov serve`?")
    if response.is_success and isinstance(body, dict):
        return body
    problem: Mapping[str, Any] = body if isinstance(body, dict) else {}
    detail = str(problem.get("detail") or f"HTTP {response.status_code}")
    raise PreprovError(detail, str(problem.get("hint") or ""), response.status_code)


def headers(token: str, key: str) -> dict[str, str]:
    """Of a request; `key` makes it safe to send again."""
    found = {"Authorization": f"Bearer {token}"} if token else {}
    return {**found, "Idempotency-Key": key} if key else found
