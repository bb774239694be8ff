"""The SDK's clients, one per kind and place, with the SDK's own retries and nothing on top."""

import uuid
from collections.abc import Iterator
from threading import Lock
from typing import Any, Final

from preprov.contracts import Clock
from preprov.model.errors import ConflictError
from preprov.pools.gcp.errors import calling, of_operation
from preprov.pools.gcp.options import Place

_OPERATION_S: Final = 300.0
_CALL_S: Final = 60.0
_WAIT_CALL_S: Final = 150.0
"""The API keeps a call that waits for an operation for up to two minutes."""


class Clients:
    """Makes clients when they are first needed and keeps them; using one from threads is safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[tuple[str, Place], Any] = {}

    def call(self, place: Place, where: str, kind: str, method: str, **fields: Any) -> Any:
        """One call: `kind` as in "Instances", `method` of its client, the fields of its request but project and zone.

        A write carries a request id, so that trying it again does not do it again.

        Raises:
            PoolError: it failed.
        """
        client = self.get(kind, place)
        with calling(where):
            timeout = _WAIT_CALL_S if method == "wait" else _CALL_S
            return getattr(client, method)(
                request=_request(kind, method, place, fields), retry=_retry(place), timeout=timeout
            )

    def pages(self, place: Place, where: str, kind: str, method: str, **fields: Any) -> Iterator[Any]:
        """All items of a paginated call.

        Raises:
            PoolError: a call failed.
        """
        found = self.call(place, where, kind, method, **fields)
        with calling(where):
            yield from found

    def answers(self, place: Place, where: str, kind: str, method: str, **fields: Any) -> Iterator[list[Any]]:
        """Items of a paginated call, page by page: each is asked for when it is wanted, and may be empty.

        Raises:
            PoolError: a call failed.
        """
        found = self.call(place, where, kind, method, **fields)
        with calling(where):
            for page in found.pages:
                yield list(page.items)

    def done(self, place: Place, where: str, operation: Any, kind: str = "ZoneOperations") -> None:
        """Wait until an operation, of the zone or a global one, is over; the API does the waiting.

        Raises:
            PoolError: it failed.
            ConflictError: it is not over in five minutes.
        """
        started = self._clock.now()
        while operation.status.name != "DONE":
            if (self._clock.now() - started).total_seconds() > _OPERATION_S:
                raise ConflictError(f"{operation.operation_type} is not over yet", where=where, hint="observe again")
            operation = self.call(place, where, kind, "wait", operation=operation.name)
        failed = of_operation(operation, where)
        if failed is not None:
            raise failed

    def get(self, kind: str, place: Place) -> Any:
        """The client of a kind at a place.

        Raises:
            NotAuthorisedError: there are no credentials.
        """
        with self._lock:
            if (kind, place) not in self._kept:
                self._kept[kind, place] = _make(kind, place)
            return self._kept[kind, place]


def _make(kind: str, place: Place) -> Any:
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import compute_v1

    client: Any = getattr(compute_v1, f"{kind}Client")
    with calling(place.project):
        if not place.endpoint:
            return client()
        nobody: Any = AnonymousCredentials
        return client(credentials=nobody(), client_options=ClientOptions(api_endpoint=place.endpoint))


def _request(kind: str, method: str, place: Place, fields: dict[str, Any]) -> Any:
    """The request object of a call: its name is that of the method and the kind, in the singular."""
    from google.cloud import compute_v1

    verb = "".join(w.capitalize() for w in method.removesuffix("_unary").split("_"))
    names = (f"{verb}{kind[:-1]}Request", f"{verb}{kind}Request")
    type_: Any = next(t for n in names if (t := getattr(compute_v1, n, None)) is not None)
    known = type_.meta.fields
    context = {"project": place.project, "zone": place.zone, "region": place.region, "request_id": str(uuid.uuid4())}
    return type_({k: v for k, v in context.items() if k in known} | fields)


def _retry(place: Place) -> Any:
    """The SDK's retry: what was throttled, or not answered; all writes are idempotent by their request id."""
    from google.api_core.exceptions import ServiceUnavailable, TooManyRequests
    from google.api_core.retry import Retry, if_exception_type
    from requests.exceptions import ConnectionError as Unreachable

    again = if_exception_type(TooManyRequests, ServiceUnavailable, Unreachable)
    return Retry(predicate=again, initial=0.5, maximum=10.0, multiplier=2.0, timeout=place.retry_s)
