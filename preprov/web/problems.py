"""Every error of the API is a problem document (RFC 9457), whoever raised it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from preprov.model import errors
from preprov.model.errors import PreprovError

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 2
_STATUS: Final[tuple[tuple[type[PreprovError], int], ...]] = (
    (errors.NotFoundError, 404),
    (errors.ReservationError, 409),
    (errors.WorkError, 422),
    (errors.ConfigError, 422),
    (errors.LeaseHeldError, 503),
    (errors.StoreUnavailableError, 503),
    (errors.PoolError, 502),
    (errors.ForecastError, 409),
    (errors.PlanError, 409),
    (errors.AccessError, 403),
)
_KINDS: Final = {
    401: "NoToken",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "TooLarge",
    422: "Malformed",
    500: "Unforeseen",
    503: "NotReady",
}


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        what: one sentence. kind: the error's name, the last part of the document's `type`.
        hint: what to do next. more: further members of the document. headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        kind: str = "",
        hint: str = "",
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.kind = kind or _KINDS.get(status, f"Status{status}")
        self.hint = hint
        self.more = dict(more or {})
        self.headers = dict(headers or {})

    def answer(self, instance: str = "") -> Response:
        """The problem document."""
        document = {
            "type": f"urn:preprov:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.what,
            **({"instance": instance} if instance else {}),
            **({"hint": self.hint} if self.hint else {}),
            **self.more,
        }
        return JSONResponse(document, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def not_found(what: str) -> Problem:
    """There is no such thing, or it is not the caller's: the two look the same from outside."""
    return Problem(404, what, kind="NotFound")


def problem_of(error: PreprovError) -> Problem:
    """What an error of ours is to a client."""
    status = next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status in (502, 503) and error.retryable else {}
    where = error.where if status < 500 else ""  # addresses of databases and clouds are nobody's business outside
    return Problem(
        status,
        error.what if status < 500 else "the store or the cloud behind this server did not do what was asked",
        kind=error.kind,
        hint=error.hint if status < 500 else "try again later; the server's log says more",
        more={"where": where} if where else {},
        headers=headers,
    )


def attach(api: FastAPI) -> None:
    """Answer every error with a problem document."""

    @api.exception_handler(Problem)
    async def known(request: Request, error: Problem) -> Response:
        return error.answer(request.url.path)

    @api.exception_handler(PreprovError)
    async def ours(request: Request, error: PreprovError) -> Response:
        made = problem_of(error)
        if made.status >= 500:
            log.error("request failed", path=request.url.path, error=error.kind, what=error.what, where=error.where)
        return made.answer(request.url.path)

    @api.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        wrong = [{"at": "/".join(map(str, e["loc"])), "what": str(e["msg"])} for e in error.errors()[:20]]
        first = f"{wrong[0]['at']}: {wrong[0]['what']}" if wrong else "the request is malformed"
        return Problem(422, first, kind="Malformed", more={"errors": wrong}).answer(request.url.path)

    @api.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        return Problem(error.status_code, str(error.detail), headers=error.headers).answer(request.url.path)

    @api.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        log.exception("request failed", path=request.url.path, error=type(error).__name__)
        return Problem(500, "something went wrong in this server", hint="its log says more").answer(request.url.path)
