"""Wait for capacity without holding a worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from preprov_provider.client import PreprovError, PreprovUnavailable, release_async, trusting, wait_async
from preprov_provider.hooks.preprov import PreprovHook
from preprov_provider.reserving import OVER

KILLED = "its task was ended while it waited"
_ASK_S = 30.0
_REST_S = 5.0
_REST_AT_MOST_S = 60.0


class ReservationReadyTrigger(BaseTrigger):
    """Fires once a reservation is ready or over, with the reservation as preprov tells it.

    While preprov does not answer it goes on asking, more and more seldom. How long it waits in all is the deferral's
    own time-out.

    :param outage: seconds without an answer after which it fires with `unavailable`; None: the time-out bounds it too.
    :param owned: its task made the reservation, and gives it back if somebody ends the task while it waits here
        (Airflow 3.3 and newer; before, nobody tells a trigger).
    """

    def __init__(
        self,
        reservation_id: str,
        preprov_conn_id: str = PreprovHook.default_conn_name,
        outage: float | None = None,
        owned: bool = False,
    ) -> None:
        """Ask nothing yet."""
        super().__init__()
        self.reservation_id = reservation_id
        self.preprov_conn_id = preprov_conn_id
        self.outage = outage
        self.owned = owned

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and what it is made with."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        names = ("reservation_id", "preprov_conn_id", "outage", "owned")
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until there is an end of it."""
        settings = await self._settings()
        rest, answered = _REST_S, time.monotonic()
        async with httpx.AsyncClient(base_url=settings["url"], verify=trusting(settings["verify"])) as http:
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
                if found["ready"] or found["state"] in OVER:
                    yield TriggerEvent({"reservation": found})
                    return

    async def on_kill(self) -> None:
        """Somebody ended the task while it waited here: nobody will take up what it reserved."""
        if not self.owned:
            return
        settings = await self._settings()
        async with httpx.AsyncClient(base_url=settings["url"], verify=trusting(settings["verify"])) as http:
            try:
                await release_async(http, settings["token"], self.reservation_id, KILLED)
            except PreprovError as error:
                self.log.warning("%s. Reservation %s ends by itself.", error, self.reservation_id)

    async def _settings(self) -> dict[str, Any]:
        hook = PreprovHook(self.preprov_conn_id)
        found: dict[str, Any] = await sync_to_async(lambda: hook.settings)()
        return found
