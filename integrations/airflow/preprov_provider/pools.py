"""Slots of an Airflow pool that follow warm capacity, so that no more tasks start than there is room for.

A pool's slots are a number that somebody typed in; nodes come and go. `follow` sets them to what is warm, over
Airflow's own REST API, and never below what tasks hold now.
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
    """What was decided. :param was: before. :param held: by tasks that run. :param wanted: by what is warm."""

    pool: str
    was: int
    held: int
    wanted: int
    now: int


def decide(warm: Mapping[str, float], per_slot: Mapping[str, float], held: int, floor: int, ceiling: int) -> int:
    """Slots for so much warm capacity: as many as fit of every resource, within bounds, never below what is held."""
    fits = [warm.get(kind, 0.0) / amount for kind, amount in per_slot.items() if amount > 0]
    wanted = math.floor(min(fits) + 1e-9) if fits else floor
    return max(min(max(wanted, floor), ceiling), held)


def follow(
    airflow: httpx.Client,
    airflow_pool: str,
    warm: Mapping[str, float],
    per_slot: Mapping[str, float],
    *,
    floor: int = 0,
    ceiling: int = 10_000,
) -> Slots:
    """Set the slots of an Airflow pool.

    :param airflow: with the base address of its API (…/api/v2, or …/api/v1) and credentials.
    :param warm: what is allocatable on nodes that are ready. :param per_slot: what a slot stands for.
    """
    path = f"pools/{quote(airflow_pool, safe='')}"
    pool = _json(airflow.get(path, timeout=TIMEOUT_S))
    held = int(pool.get("occupied_slots", 0))
    now = decide(warm, per_slot, held, floor, ceiling)
    was = int(pool["slots"])
    if now != was:
        mask = {"update_mask": "slots"}
        _json(airflow.patch(path, params=mask, json={"pool": airflow_pool, "slots": now}, timeout=TIMEOUT_S))
    return Slots(airflow_pool, was, held, decide(warm, per_slot, 0, floor, ceiling), now)


def _json(response: httpx.Response) -> dict[str, Any]:
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found
