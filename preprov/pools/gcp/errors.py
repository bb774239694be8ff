"""What Google's error codes mean to us: one table, used around every call and for every operation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)

_SHORT: Final = "another type, zone or time may do"
_QUOTA: Final = "raise the quota in IAM & Admin, or lower max_nodes"
_BUSY: Final = "the next pass tries again"
_RIGHTS: Final = "grant the role that preprov needs on this project"
_LOGIN: Final = "renew the credentials (`gcloud auth application-default login`, or the service account)"
_AGAIN: Final = "observe again"

_CODES: Final[Mapping[type[PoolError], tuple[str, tuple[str, ...]]]] = {
    InsufficientCapacityError: (
        _SHORT,
        (
            "ZONE_RESOURCE_POOL_EXHAUSTED",
            "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
            "REGION_RESOURCE_POOL_EXHAUSTED",
            "STOCKOUT",
            "UNSUPPORTED_OPERATION",
        ),
    ),
    QuotaExceededError: (_QUOTA, ("QUOTA_EXCEEDED", "quotaExceeded", "LIMIT_EXCEEDED", "IP_SPACE_EXHAUSTED")),
    ThrottledError: (
        _BUSY,
        ("rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "backendError", "internalError"),
    ),
    NotAuthorisedError: (_RIGHTS, ("forbidden", "accessNotConfigured", "PERMISSIONS_ERROR", "insufficientPermissions")),
    NotFoundError: (_AGAIN, ("notFound", "RESOURCE_NOT_FOUND")),
    ConflictError: (
        _AGAIN,
        (
            "conditionNotMet",
            "CONDITION_NOT_MET",
            "resourceNotReady",
            "RESOURCE_NOT_READY",
            "resourceInUseByAnotherResource",
            "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
            "alreadyExists",
            "RESOURCE_ALREADY_EXISTS",
        ),
    ),
}
_MEANING: Final = {code: (kind, hint) for kind, (hint, codes) in _CODES.items() for code in codes}
_STATUS: Final[Mapping[int, tuple[type[PoolError], str]]] = {
    401: (NotAuthorisedError, _LOGIN),
    403: (NotAuthorisedError, _RIGHTS),
    404: (NotFoundError, _AGAIN),
    409: (ConflictError, _AGAIN),
    412: (ConflictError, _AGAIN),
    429: (ThrottledError, _BUSY),
    500: (ThrottledError, _BUSY),
    503: (ThrottledError, _BUSY),
}


def typed(code: str, message: str, where: str, status: int = 0) -> PoolError:
    """The error that a code and message of Google stand for; `status` decides where the code is not known."""
    said = f"{code}: {message}" if code else message
    kind, hint = _MEANING.get(code) or _STATUS.get(status, (PoolError, ""))
    return kind(said, where=where, hint=hint)


def of_operation(operation: Any, where: str) -> PoolError | None:
    """The error an operation ended with; None if it went well."""
    errors = list(operation.error.errors)
    if errors:
        return typed(errors[0].code, errors[0].message, where, int(operation.http_error_status_code))
    if operation.http_error_status_code:
        return typed("", operation.http_error_message, where, int(operation.http_error_status_code))
    return None


@contextmanager
def calling(where: str) -> Iterator[None]:
    """Turn what the SDK raises inside into our errors.

    Raises:
        PoolError: the call failed; which of its kinds says what may be done about it.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except RetryError as e:
        cause = e.cause
        raise (_api(cause, where) if isinstance(cause, GoogleAPICallError) else _silent(cause, where)) from e
    except GoogleAPICallError as e:
        raise _api(e, where) from e
    except GoogleAuthError as e:
        raise NotAuthorisedError(f"no Google credentials: {e}", where=where, hint=_LOGIN) from e
    except RequestException as e:
        raise _silent(e, where) from e


def _silent(e: object, where: str) -> PoolError:
    return ThrottledError(f"Google does not answer: {e}", where=where, hint=_BUSY)


def _api(e: Any, where: str) -> PoolError:
    reasons = [str(i.get("reason", "")) for i in e.errors or () if isinstance(i, dict)]
    return typed(reasons[0] if reasons else "", str(e.message), where, int(e.code or 0))
