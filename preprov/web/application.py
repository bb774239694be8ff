"""The API put together."""

from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI

from preprov.app import App
from preprov.model.access import Token
from preprov.web import problems
from preprov.web.documents import PROBLEM
from preprov.web.limits import SizeLimit, Throttle
from preprov.web.routes import capacity, events, health, metrics, reservations
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
    """

    body: int = 1 << 20
    rate: float = 50.0
    burst: float = 200.0


@dataclass(frozen=True)
class Options:
    """How the API is served.

    Attributes:
        page_tokens: tokens that live as long as this process and are in no store: what is written -> its right.
    """

    limits: Limits = field(default_factory=Limits)
    page_tokens: dict[str, Token] = field(default_factory=dict)


def create_api(app: App, options: Options | None = None) -> FastAPI:
    """The ASGI application over a wired app, which has to stay open as long as it is served."""
    options = options or Options()
    api = routed()
    api.state.preprov = app
    api.state.throttle = Throttle(options.limits.rate, options.limits.burst)
    api.state.page_tokens = options.page_tokens
    api.add_middleware(SizeLimit, limit=options.limits.body)
    return api


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
    for part in (reservations, events, capacity, health, metrics):
        api.include_router(part.router)
    return api
