"""preprov's HTTP API as the provider needs it: a few calls, asked in a thread or in an event loop."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S = 15.0
"""Of any call; waiting for a reservation may take so much longer."""


class PreprovError(Exception):
    """preprov refused what it was asked."""

    def __init__(self, status: int, detail: str, hint: str = "") -> None:
        super().__init__(f"preprov: {detail}" + (f" ({hint})" if hint else ""))
        self.status = status
        self.detail = detail
        self.hint = hint


class PreprovUnavailable(PreprovError):
    """preprov does not answer now."""

    def __init__(self, why: str) -> None:
        super().__init__(0, f"it does not answer: {why}")


def answered(response: httpx.Response) -> dict[str, Any]:
    """What a good answer holds.

    Raises:
        PreprovUnavailable: it cannot serve now. PreprovError: it will not.
    """
    if response.status_code in (429, 502, 503, 504):
        raise PreprovUnavailable(f"HTTP {response.status_code}")
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and isinstance(body, dict):
        return body
    problem: Mapping[str, Any] = body if isinstance(body, dict) else {}
    detail = str(problem.get("detail") or f"HTTP {response.status_code}")
    raise PreprovError(response.status_code, detail, str(problem.get("hint") or ""))


def headers(token: str, key: str = "") -> dict[str, str]:
    """Of a request; `key` makes it safe to send again."""
    found = {"Authorization": f"Bearer {token}"} if token else {}
    return {**found, "Idempotency-Key": key} if key else found


def reservation(
    pool: str,
    claimant: str,
    request: Mapping[str, float],
    *,
    count: int = 1,
    start: str | None = None,
    seconds: float = 3600.0,
    expires_in: float | None = None,
    priority: int | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """The body that asks for a reservation."""
    body: dict[str, Any] = {
        "pool": pool,
        "claimant": claimant,
        "request": {k: v for k, v in request.items() if v},
        "count": count,
        "seconds": seconds,
        "reason": reason,
    }
    more = {"start": start, "expires_in": expires_in, "priority": priority}
    return {**body, **{k: v for k, v in more.items() if v is not None}}


def events(source: str, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that tells what happened."""
    return {"source": source, "events": list(told)}


class Client:
    """Calls in this thread."""

    def __init__(
        self, url: str, token: str, *, verify: bool | str = True, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Call nobody yet."""
        self._token = token
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=verify, transport=transport)

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    def call(self, method: str, path: str, *, key: str = "", timeout: float = TIMEOUT_S, **more: Any) -> dict[str, Any]:
        """One call.

        Raises:
            PreprovUnavailable: there is no answer. PreprovError: it is refused.
        """
        try:
            response = self._http.request(method, path, headers=headers(self._token, key), timeout=timeout, **more)
        except httpx.HTTPError as error:
            raise PreprovUnavailable(str(error) or type(error).__name__) from error
        return answered(response)

    def reserve(self, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Ask for capacity; the same key gives the same reservation."""
        return self.call("POST", "/v1/reservations", key=key, json=dict(body))

    def look(self, reservation_id: str) -> dict[str, Any]:
        """A reservation as it is."""
        return self.call("GET", f"/v1/reservations/{quote(reservation_id, safe='')}")

    def wait(self, reservation_id: str, seconds: float) -> dict[str, Any]:
        """A reservation once it is ready or over, at the latest after so long (60 s at the most)."""
        path = f"/v1/reservations/{quote(reservation_id, safe='')}/wait"
        return self.call("GET", path, params={"seconds": seconds}, timeout=TIMEOUT_S + seconds)

    def release(self, reservation_id: str, reason: str) -> dict[str, Any]:
        """Give a reservation back; again changes nothing."""
        return self.call("DELETE", f"/v1/reservations/{quote(reservation_id, safe='')}", params={"reason": reason})

    def tell(self, source: str, told: Sequence[Mapping[str, Any]], *, timeout: float = TIMEOUT_S) -> dict[str, Any]:
        """Say what happened; again changes nothing."""
        return self.call("POST", "/v1/events", json=events(source, told), timeout=timeout)

    def ready(self) -> dict[str, Any]:
        """Whether it can serve."""
        return self.call("GET", "/v1/ready")

    def reservations(self) -> dict[str, Any]:
        """Those of this token's tenant."""
        return self.call("GET", "/v1/reservations")

    def capacity(self) -> dict[str, Any]:
        """What is there of each pool that this token's tenant may see."""
        return self.call("GET", "/v1/capacity")


async def wait_async(http: httpx.AsyncClient, token: str, reservation_id: str, seconds: float) -> dict[str, Any]:
    """As `Client.wait`, in an event loop."""
    path = f"/v1/reservations/{quote(reservation_id, safe='')}/wait"
    try:
        response = await http.get(
            path, params={"seconds": seconds}, headers=headers(token), timeout=TIMEOUT_S + seconds
        )
    except httpx.HTTPError as error:
        raise PreprovUnavailable(str(error) or type(error).__name__) from error
    return answered(response)
