"""Whether the server lives, and whether it can do its work: for orchestrators of containers, without a token."""

from importlib.metadata import version

from fastapi import APIRouter, Request

from preprov.web.documents import HealthPart, ReadyPart
from preprov.web.problems import Problem
from preprov.web.security import app_of

router = APIRouter(prefix="/v1", tags=["health"])


@router.get("/health", summary="Is the process alive")
def health() -> HealthPart:
    """Touches nothing: a database that is away is no reason to start this process again."""
    return HealthPart(status="ok", version=version("preprov"))


@router.get("/ready", summary="Can it answer")
def ready(request: Request) -> ReadyPart:
    """Asks the store. 503 while it does not answer, or while its schema is of another version."""
    app = app_of(request)
    found = app.store.current()
    if found != app.store.head:
        raise Problem(503, f"the store is at schema {found}, not {app.store.head}", hint="preprov db upgrade")
    return ReadyPart(status="ready", store=app.store.where.split("+")[0].split(":")[0], pools=len(app.ctx.pools))
