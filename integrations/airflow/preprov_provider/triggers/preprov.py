"""Wait for capacity without holding a worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from preprov_provider.client import PreprovError, PreprovUnavailable, wait_async
from preprov_provider.hooks.preprov import PreprovHook

OVER = ("released", "expired")
_ASK_S = 30.0
_REST_S = 5.0
_REST_AT_MOST_S = 60.0


class ReservationReadyTrigger(BaseTrigger):
    """Fires once a reservation is ready or over, with the reservation as preprov tells it.

    While preprov does not answer it goes on asking, more and more seldom. How long it waits in all is the deferral's
    own time-out.

    :param outage: seconds without an answer after which it fires with `unavailable`; None: the time-out bounds it too.
    """

    def __init__(
        self, reservation_id: str, preprov_conn_id: str = PreprovHook.default_conn_name, outage: float | None = None
    ) -> None:
        """Ask nothing yet."""
        super().__init__()
        self.reservation_id = reservation_id
        self.preprov_conn_id = preprov_conn_id
        self.outage = outage

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and what it is made with."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        names = ("reservation_id", "preprov_conn_id", "outage")
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until there is an end of it."""
        hook = PreprovHook(self.preprov_conn_id)
        settings = await sync_to_async(lambda: hook.settings)()
        rest, answered = _REST_S, time.monotonic()
        async with httpx.AsyncClient(base_url=settings["url"], verify=settings["verify"]) as http:
            while True:
                try:
                    found = await wait_async(http, settings["token"], self.reservation_id, _ASK_S)
                except PreprovUnavailable as error:
                    if self.outage is not None and time.monotonic() - answered >= self.outage:
                        yield TriggerEvent({"unavailable": str(error)})
                        return
                    self.log.warning("%s; asked again in %.0f s", error, rest)
                    await asyncio.sleep(rest)
                    rest = min(rest * 2, _REST_AT_MOST_S)
                    continue
                except PreprovError as error:
                    yield TriggerEvent({"error": str(error)})
                    return
                rest, answered = _REST_S, time.monotonic()
                if found.get("ready") or found.get("state") in OVER:
                    yield TriggerEvent({"reservation": found})
                    return
