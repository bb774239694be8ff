"""preprov's HTTP API as the provider needs it: a few calls, asked in a thread or in an event loop."""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S = 15.0
"""Of any call; waiting for a reservation may take so much longer."""
_LATER = (408, 425, 429)
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class PreprovError(Exception):
    """preprov refused what it was asked. `where`: what stands in the way, if it names something."""

    def __init__(self, status: int, detail: str, hint: str = "", where: str = "") -> None:
        super().__init__(f"preprov: {detail}" + (f" ({hint})" if hint else ""))
        self.status = status
        self.detail = detail
        self.hint = hint
        self.where = where


class PreprovUnavailable(PreprovError):
    """preprov does not answer now."""

    def __init__(self, why: str) -> None:
        super().__init__(0, f"it does not answer: {why}")


def answered(response: httpx.Response) -> dict[str, Any]:
    """What a good answer holds.

    Whatever went wrong over there, and whatever preprov cannot have said (a page of a proxy's), is no refusal of its.

    Raises:
        PreprovUnavailable: it does not serve now, or is not preprov. PreprovError: it will not.
    """
    if response.status_code in _LATER or response.is_server_error:
        raise PreprovUnavailable(f"HTTP {response.status_code}")
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise PreprovUnavailable(f"HTTP {response.status_code}, and not as preprov answers: is this `preprov serve`?")
    if response.is_success:
        return body
    detail = str(body.get("detail") or f"HTTP {response.status_code}")
    raise PreprovError(response.status_code, detail, str(body.get("hint") or ""), str(body.get("where") or ""))


def _is_reservation(body: dict[str, Any]) -> dict[str, Any]:
    if not {"reservation_id", "state", "ready", "nodes"} <= set(body):
        raise PreprovUnavailable("what it says is no reservation: is this `preprov serve`?")
    return body


def trusting(verify: object) -> "bool | ssl.SSLContext":
    """Which certificates are taken: those of public authorities, any (False), or those in a file or a folder."""
    if verify in (None, "", True, False):
        return verify is not False
    if str(verify).lower() in _WORDS:
        return _WORDS[str(verify).lower()]
    place = str(verify)
    folder = Path(place).is_dir()
    return ssl.create_default_context(cafile=None if folder else place, capath=place if folder else None)


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
        self, url: str, token: str, *, verify: object = True, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Call nobody yet. `verify`: as `trusting` takes it."""
        self._token = token
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=trusting(verify), transport=transport)

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
        return _is_reservation(self.call("POST", "/v1/reservations", key=key, json=dict(body)))

    def look(self, reservation_id: str) -> dict[str, Any]:
        """A reservation as it is."""
        return _is_reservation(self.call("GET", _path(reservation_id)))

    def wait(self, reservation_id: str, seconds: float) -> dict[str, Any]:
        """A reservation once it is ready or over, at the latest after so long (60 s at the most)."""
        path, more = f"{_path(reservation_id)}/wait", {"seconds": seconds}
        return _is_reservation(self.call("GET", path, params=more, timeout=TIMEOUT_S + seconds))

    def release(self, reservation_id: str, reason: str) -> dict[str, Any]:
        """Give a reservation back; again changes nothing."""
        return _is_reservation(self.call("DELETE", _path(reservation_id), params={"reason": reason}))

    def tell(self, source: str, told: Sequence[Mapping[str, Any]], *, timeout: float = TIMEOUT_S) -> dict[str, Any]:
        """Say what happened; again changes nothing."""
        return self.call("POST", "/v1/events", json=events(source, told), timeout=timeout)

    def ready(self) -> dict[str, Any]:
        """Whether it can serve."""
        return self.call("GET", "/v1/ready")

    def reservations(self, pool: str = "", after: str = "") -> dict[str, Any]:
        """Live ones of this token's tenant, of one pool or of all: a page, and where the `next` one goes on."""
        asked = {"pool": pool, "after": after}
        return self.call("GET", "/v1/reservations", params={k: v for k, v in asked.items() if v})

    def capacity(self) -> dict[str, Any]:
        """What is there of each pool that this token's tenant may see."""
        return self.call("GET", "/v1/capacity")


async def wait_async(http: httpx.AsyncClient, token: str, reservation_id: str, seconds: float) -> dict[str, Any]:
    """As `Client.wait`, in an event loop."""
    path, more = f"{_path(reservation_id)}/wait", {"seconds": seconds}
    return await _call_async(http, token, "GET", path, more, TIMEOUT_S + seconds)


async def release_async(http: httpx.AsyncClient, token: str, reservation_id: str, reason: str) -> dict[str, Any]:
    """As `Client.release`, in an event loop."""
    return await _call_async(http, token, "DELETE", _path(reservation_id), {"reason": reason}, TIMEOUT_S)


async def _call_async(
    http: httpx.AsyncClient, token: str, method: str, path: str, params: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    try:
        response = await http.request(method, path, params=params, headers=headers(token), timeout=timeout)
    except httpx.HTTPError as error:
        raise PreprovUnavailable(str(error) or type(error).__name__) from error
    return _is_reservation(answered(response))


def _path(reservation_id: str) -> str:
    return f"/v1/reservations/{quote(reservation_id, safe='')}"
