"""One reservation of a task instance, however often it is tried, cleared or edited."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from preprov_provider.client import PreprovError, PreprovUnavailable
from preprov_provider.naming import digest_of, key_of

OVER = ("released", "expired")
_CONFLICT = 409
_KEYS = 100
"""Of one request of one task instance, each with a reservation of its own; further ones are made up."""


class Asked(Protocol):
    """As much of `Client` as this needs."""

    def reserve(self, body: Mapping[str, Any], key: str) -> dict[str, Any]: ...  # noqa: D102
    def look(self, reservation_id: str) -> dict[str, Any]: ...  # noqa: D102
    def release(self, reservation_id: str, reason: str) -> dict[str, Any]: ...  # noqa: D102
    def reservations(self, pool: str = "", after: str = "") -> dict[str, Any]: ...  # noqa: D102


def reserve(
    client: Asked, body: Mapping[str, Any], names: tuple[str, ...], is_ours: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """The live reservation of a task instance: that of an earlier try, or a new one where all of them are over.

    A reservation that the same task instance made by another request (it was edited, or a template follows the clock)
    is given back first.

    :param names: what tells the task instance from all others. :param is_ours: whether it made this reservation.

    Raises:
        PreprovUnavailable: preprov does not answer. PreprovError: it refuses.
    """
    names = (*names, digest_of(body))
    key, given_back = key_of(*names), set[str]()
    for number in range(2 * _KEYS):
        try:
            found = client.reserve(body, key)
        except PreprovError as refused:
            before = _in_the_way(client, refused, is_ours)
            if not before:
                raise
            if before not in given_back:  # the key is good once its claimant is free
                given_back.add(before)
                client.release(before, "its task asks for something else now")
                continue
        else:
            if found["state"] not in OVER:
                return found
            before = str(found["reservation_id"])
        key = key_of(*names, before if number < _KEYS else uuid.uuid4().hex)
    raise PreprovError(_CONFLICT, f"{body['claimant']} is reserved for and given back all the time")


def _in_the_way(client: Asked, refused: PreprovError, is_ours: Callable[[Mapping[str, Any]], bool]) -> str:
    """The reservation because of which it is refused, if it is ours; else nothing."""
    if refused.status != _CONFLICT or not refused.where:
        return ""
    try:
        return refused.where if is_ours(client.look(refused.where)) else ""
    except PreprovUnavailable:
        raise
    except PreprovError:  # what stands in the way is no reservation
        return ""


def live(
    client: Asked, pool: str, claimant: str, is_ours: Callable[[Mapping[str, Any]], bool]
) -> "dict[str, Any] | None":
    """The live reservation of a claimant, if a task instance made it; makes none.

    Raises:
        PreprovUnavailable: preprov does not answer. PreprovError: it refuses.
    """
    after = ""
    while True:
        page = client.reservations(pool, after)
        known = page.get("reservations", ())
        found = next((r for r in known if r["claimant"] == claimant and is_ours(r)), None)
        after = page.get("next") or ""
        if found is not None or not after:
            return found
