"""Slots of an Airflow pool that follow warm capacity, so that no more tasks start than there is room for.

A pool's slots are a number that somebody typed in; nodes come and go, and others have work on them too. `follow` sets
them to what there is room for, over Airflow's own REST API, and never below what tasks hold now; `follow_capacity` does
so for a task, by connections.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Slots:
    """What was decided. :param was: before. :param held: by tasks that run. :param wanted: by the room there is."""

    pool: str
    was: int
    held: int
    wanted: int
    now: int


@dataclass(frozen=True)
class Room:
    """Of warm nodes, by resource.

    :param free: what nobody has but this Airflow, by its reservations. :param whole: the same with what runs on the
        nodes and was not started by preprov: this Airflow's own tasks are among that, or may be.
    """

    free: Mapping[str, float]
    whole: Mapping[str, float]

    @classmethod
    def of(cls, seen: Mapping[str, Any]) -> "Room":
        """Of a pool as preprov's `/v1/capacity` tells it: what others hold is no room, what this tenant holds is."""
        free, whole, yours, held = seen["free"], seen["allocatable"], seen["held_by_you"], seen["held"]
        return cls(
            {kind: amount + yours.get(kind, 0.0) for kind, amount in free.items()},
            {kind: max(a - held.get(kind, 0.0) + yours.get(kind, 0.0), 0.0) for kind, a in whole.items()},
        )


def fits(room: Mapping[str, float], per_slot: Mapping[str, float]) -> "int | None":
    """So many slots as fit of every resource; None: a slot stands for nothing."""
    found = [room.get(kind, 0.0) / amount for kind, amount in per_slot.items() if amount > 0]
    return math.floor(min(found) + 1e-9) if found else None


def decide(room: Room, per_slot: Mapping[str, float], running: int, floor: int, ceiling: int) -> int:
    """Slots for so much room: as many as fit beside what runs, within bounds.

    :param running: tasks of the Airflow pool that run: where they are among what runs on the nodes, their room is
        theirs already.
    """
    free, whole = fits(room.free, per_slot), fits(room.whole, per_slot)
    wanted = floor if free is None or whole is None else min(free + running, max(whole, free))
    return min(max(wanted, floor), ceiling)


def follow(
    airflow: httpx.Client,
    airflow_pool: str,
    room: Room,
    per_slot: Mapping[str, float],
    *,
    floor: int = 0,
    ceiling: int = 10_000,
) -> Slots:
    """Set the slots of an Airflow pool.

    :param airflow: with the base address of its API (…/api/v2, or …/api/v1) and credentials.
    :param room: of the nodes that are ready. :param per_slot: what a slot stands for.
    """
    path = f"pools/{quote(airflow_pool, safe='')}"
    pool = _json(airflow.get(path, timeout=TIMEOUT_S))
    held, running = int(pool.get("occupied_slots", 0)), int(pool.get("running_slots", 0))
    wanted = decide(room, per_slot, running, floor, ceiling)
    now, was = max(wanted, held), int(pool["slots"])
    if now != was:
        body: dict[str, Any] = {"slots": now}
        if not airflow.base_url.path.rstrip("/").endswith("/v1"):
            # Airflow 3 refuses a part of a pool, though the mask says that no more of it is to change.
            body |= {"pool": airflow_pool, "include_deferred": bool(pool.get("include_deferred", False))}
        _json(airflow.patch(path, params={"update_mask": "slots"}, json=body, timeout=TIMEOUT_S))
    return Slots(airflow_pool, was, held, wanted, now)


def follow_capacity(
    preprov_pool: str,
    airflow_pool: str,
    per_slot: Mapping[str, float],
    *,
    floor: int = 1,
    ceiling: int = 10_000,
    preprov_conn_id: str = "preprov_default",
    airflow_conn_id: str = "airflow_api",
) -> Slots:
    """Set an Airflow pool's slots to the room on warm nodes of a pool of preprov's; if either is silent they stay.

    What others' reservations hold, and other work on the nodes, is no room; what this tenant has reserved is.

    :param floor: slots that stay while nothing is warm, so that what waits is seen to wait for a node.
    :param airflow_conn_id: a connection of type http to Airflow's API server, with a user that may change pools; see
        `airflow_api`.
    """
    from preprov_provider.hooks.preprov import PreprovHook

    pools = PreprovHook(preprov_conn_id).client.capacity()["pools"]
    seen = next((p for p in pools if p["pool"] == preprov_pool), None)
    if seen is None:
        raise ValueError(f"preprov shows no pool {preprov_pool!r}; it shows {[p['pool'] for p in pools]}")
    if seen["seen_at"] is None:
        raise ValueError(f"preprov has not looked at pool {preprov_pool!r} lately: is `preprov up` running?")
    with airflow_api(airflow_conn_id) as http:
        return follow(http, airflow_pool, Room.of(seen), per_slot, floor=floor, ceiling=ceiling)


def airflow_api(conn_id: str) -> httpx.Client:
    """A client of Airflow's REST API.

    :param conn_id: its host is the API server. User and password are exchanged for a token (basic authentication where
        extra says `"api": "v1"`, for Airflow 2); a password alone is a token; neither asks for one without a user.
    """
    from preprov_provider.compat import BaseHook

    c = BaseHook.get_connection(conn_id)
    host = c.host.rstrip("/") if "://" in c.host else f"{c.schema or 'http'}://{c.host}:{c.port or 8080}"
    version = str(c.extra_dejson.get("api", "v2"))
    base = f"{host}/api/{version}/"
    if version == "v1" and c.login:
        return httpx.Client(base_url=base, auth=(c.login, c.password or ""))
    token = c.password or ""
    if c.login or not token:
        place, said = f"{host}/auth/token", {"username": c.login, "password": c.password}
        ask = httpx.post(place, json=said, timeout=TIMEOUT_S) if c.login else httpx.get(place, timeout=TIMEOUT_S)
        token = str(_json(ask)["access_token"])
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"})


def _json(response: httpx.Response) -> dict[str, Any]:
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found
