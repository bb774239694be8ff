"""What Azure's error codes mean to us: one table, used around every call and for every operation."""

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

_SHORT: Final = "another size, zone or time may do"
_QUOTA: Final = "raise the quota in the portal under Quotas, or lower max_nodes"
_BUSY: Final = "the next pass tries again"
_RIGHTS: Final = "grant the role that preprov needs on this resource group"
_LOGIN: Final = "renew the credentials (`az login`, or the managed identity)"
_AGAIN: Final = "observe again"
_QUOTA_WORDS: Final = ("quota", "exceeding approved")

_CODES: Final[Mapping[type[PoolError], tuple[str, tuple[str, ...]]]] = {
    InsufficientCapacityError: (
        _SHORT,
        (
            "AllocationFailed",
            "ZonalAllocationFailed",
            "OverconstrainedAllocationRequest",
            "OverconstrainedZonalAllocationRequest",
            "SkuNotAvailable",
            "SpotCapacityNotAvailable",
        ),
    ),
    QuotaExceededError: (_QUOTA, ("QuotaExceeded", "SubnetIsFull", "PublicIPCountLimitReached")),
    ThrottledError: (
        _BUSY,
        (
            "TooManyRequests",
            "OperationNotAllowedThrottled",
            "RetryableError",
            "InternalExecutionError",
            "ServerTimeout",
        ),
    ),
    NotAuthorisedError: (_RIGHTS, ("AuthorizationFailed", "LinkedAuthorizationFailed", "RequestDisallowedByPolicy")),
    NotFoundError: (_AGAIN, ("ResourceNotFound", "NotFound", "ParentResourceNotFound")),
    ConflictError: (_AGAIN, ("PreconditionFailed", "Conflict", "OperationPreempted", "AnotherOperationInProgress")),
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
    """The error that a code and message of Azure stand for.

    "OperationNotAllowed" is a full quota when its message says so; `status` decides where the code is not known.
    """
    said = f"{code}: {message}" if code else message
    if code == "OperationNotAllowed" and any(w in message.lower() for w in _QUOTA_WORDS):
        return QuotaExceededError(said, where=where, hint=_QUOTA)
    kind, hint = _MEANING.get(code) or _STATUS.get(status, (PoolError, ""))
    return kind(said, where=where, hint=hint)


@contextmanager
def calling(where: str) -> Iterator[None]:
    """Turn what the SDK raises inside into our errors.

    Raises:
        PoolError: the call or operation failed; which of its kinds says what may be done about it.
    """
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        yield
    except ClientAuthenticationError as e:
        raise NotAuthorisedError(f"no Azure credentials: {e.message}", where=where, hint=_LOGIN) from e
    except HttpResponseError as e:
        raise _http(e, where) from e
    except AzureError as e:
        raise ThrottledError(f"Azure does not answer: {e}", where=where, hint=_BUSY) from e


def _http(e: Any, where: str) -> PoolError:
    inner = [d for d in getattr(e.error, "details", None) or () if getattr(d, "code", "")] if e.error else []
    told = inner[0] if inner else e.error
    code, message = (str(told.code or ""), str(told.message or "")) if told else ("", str(e.message))
    return typed(code, message, where, int(e.status_code or 0))
