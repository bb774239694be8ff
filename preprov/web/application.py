"""The API put together."""

from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI

from preprov.app import App
from preprov.web import problems, shell
from preprov.web.documents import PROBLEM
from preprov.web.limits import SizeLimit, Throttle
from preprov.web.listening import Listeners, Pace
from preprov.web.outcomes import Outcomes
from preprov.web.routes import capacity, events, health, metrics, nodes, past, reservations, windows
from preprov.web.security import Responses

TITLE: Final = "preprov"
_ERRORS: Final[Responses] = {
    "4XX": {**PROBLEM, "description": "The request cannot be served: a problem document says why."},
    "5XX": {**PROBLEM, "description": "The server cannot serve it now."},
}


@dataclass(frozen=True)
class Limits:
    """How much is let in.

    Attributes:
        body: bytes of a request. rate, burst: calls a second of one token, and at once.
        listeners: streams at once, of all tenants; one tenant may have a fifth of them, and one at least.
        stream_s: after so long a stream is ended, and its client comes back.
    """

    body: int = 1 << 20
    rate: float = 50.0
    burst: float = 200.0
    listeners: int = 100
    stream_s: float = 900.0


def create_api(app: App, limits: Limits | None = None) -> FastAPI:
    """The ASGI application over a wired app, which has to stay open as long as it is served."""
    limits = limits or Limits()
    api = routed()
    wire(api, app, limits)
    api.add_middleware(SizeLimit, limit=limits.body)
    return api


def wire(api: FastAPI, app: App, limits: Limits) -> None:
    """Give the endpoints what they answer from."""
    api.state.preprov = app
    api.state.outcomes = Outcomes(app.ctx.clock.now())
    api.state.throttle = Throttle(limits.rate, limits.burst)
    api.state.listeners = Listeners(limits.listeners, max(limits.listeners // 5, 1))
    api.state.pace = Pace(most_s=limits.stream_s)


def routed() -> FastAPI:
    """The endpoints alone, as the OpenAPI document describes them."""
    api = FastAPI(
        title=TITLE,
        version="1",
        summary="Warm the right machines before the batch wave starts.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        responses=_ERRORS,
        separate_input_output_schemas=False,
    )
    problems.attach(api)
    for part in (reservations, windows, events, nodes, capacity, past, health, metrics):
        api.include_router(part.router)
    shell.attach(api)
    return api
