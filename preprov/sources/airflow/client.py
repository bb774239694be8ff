"""Airflow's REST API as it is needed here: one request, one page after the other, both versions.

One layer of retries, around one request. Lists are read from their end: while somebody reads, runs leave a list (they
end, their DAG is deleted) and those behind move up, so that reading forwards would step over some. Read backwards
they can only come twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from preprov.contracts import Clock
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.model.time import epoch
from preprov.sources.airflow.credentials import Credential
from preprov.sources.budget import RequestBudget
from preprov.sources.skew import HeardClock

if TYPE_CHECKING:
    import httpx

Json: TypeAlias = dict[str, Any]
Version: TypeAlias = Literal["v1", "v2"]

PAGE: Final = 500
"""What is asked for; most servers give 100 at most, and the answer shows it."""
TIMEOUT_S: Final = 30.0
ATTEMPTS: Final = 4
_RIGHTS: Final = {
    "dags": ("read DAGs", "Viewer"),
    "dagRuns": ("read DAG runs", "Viewer"),
    "taskInstances": ("read task instances", "Viewer"),
    "pools": ("read pools", "Viewer"),
    "assets": ("read assets", "Viewer"),
    "datasets": ("read datasets", "Viewer"),
    "variables": ("read variables", "Op"),
    "tasks": ("read task definitions (DAG code)", "Viewer"),
    "details": ("read DAGs", "Viewer"),
}
"""Last part of a path -> what the user may then not do, and the least of Airflow's own roles that may."""


class _Again(Exception):
    """Worth asking once more."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class AirflowClient:
    """Asks one Airflow."""

    def __init__(
        self,
        url: Callable[[], str],
        credential: Credential,
        budget: RequestBudget,
        clock: Clock,
        *,
        version: Version | None = None,
        verify: bool | Path = True,
        attempts: int = ATTEMPTS,
        timeout_s: float = TIMEOUT_S,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            url: where it is, without /api.
            version: None = find out.
            attempts: of a request, each of which may take `timeout_s`.
            transport: instead of the network.
        """
        self._url, self._credential, self._budget = url, credential, budget
        self._version = version
        self._attempts, self._timeout_s = attempts, timeout_s
        self._verify, self._transport = verify, transport
        self._client: httpx.Client | None = None
        self._headers: Mapping[str, str] | None = None
        self._pages_posted = True
        self.release = ""
        self.clock = HeardClock(lambda: epoch(clock.now()))

    @property
    def where(self) -> str:
        """Its address."""
        return self._url().rstrip("/")

    @property
    def version(self) -> Version:
        """The version of its API; asks the first time."""
        if self._version is None or not self.release:
            self.connect()
        return self._version or "v2"

    def close(self) -> None:
        """Give connections back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # ------------------------------------------------------------------ requests

    def connect(self) -> str:
        """Which Airflow it is; raises SourceError if it is none."""
        wanted: Sequence[Version] = ("v2", "v1") if self._version is None else (self._version,)
        for version in wanted:
            answer = self._ask("GET", f"{self.where}/api/{version}/version", authorised=True, missing_ok=True)
            if answer is not None:
                self._version, self.release = version, str(answer.get("version", "?"))
                return self.release
        raise SourceError(
            "this address answers, but not as an Airflow",
            where=self.where,
            hint="the url is that of Airflow's API server (3.x) or web server (2.9 and newer), without /api",
        )

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Json | None:
        """What is at this path; None if there is nothing."""
        return self._ask("GET", self._at(path), params=params, missing_ok=True)

    def post(self, path: str, body: Json) -> Json:
        """A question that is too long for an address."""
        return self._ask("POST", self._at(path), json=body) or {}

    def _at(self, path: str) -> str:
        return f"{self.where}/api/{self.version}/{path}"

    def pages(self, path: str, key: str, params: Mapping[str, Any]) -> Iterator[list[Json]]:
        """Every item of a list, a page at a time, last pages first; an item may come twice, none is stepped over."""

        def ask(offset: int, limit: int) -> Json:
            return self.get(path, {**params, "limit": limit, "offset": offset}) or {}

        yield from self._rest(key, ask(0, PAGE), ask)

    def posted_pages(self, path: str, key: str, body: Json) -> Iterator[list[Json]]:
        """The same for a question with a body."""
        if not self._pages_posted:
            yield self._items(self.post(path, body), key)
            return

        def ask(offset: int, limit: int) -> Json:
            return self.post(path, {**body, "page_limit": limit, "page_offset": offset})

        try:
            first = ask(0, PAGE)
        except SourceError as error:
            if error.retryable or "HTTP 400" not in error.what:
                raise
            self._pages_posted = False  # Airflow 2.9 gives such an answer whole, and refuses to be asked for pages
            yield self._items(self.post(path, body), key)
            return
        yield from self._rest(key, first, ask)

    def count(self, path: str, params: Mapping[str, Any]) -> int:
        """How many items a list has."""
        return int((self.get(path, {**params, "limit": 1}) or {}).get("total_entries", 0))

    def _rest(self, key: str, first: Json, ask: Callable[[int, int], Json]) -> Iterator[list[Json]]:
        """All pages, the last ones first, given the first one."""
        items = self._items(first, key)
        total, size = int(first.get("total_entries") or len(items)), len(items)
        if not size or total <= size:
            yield items
            return
        for offset in range((total - 1) // size * size, -1, -size):
            yield self._items(ask(offset, size), key)

    def _items(self, answer: Json, key: str) -> list[Json]:
        items = answer.get(key, [])
        if not isinstance(items, list):
            raise SourceUnavailableError(f"{key} is no list", where=self.where, hint="is this an Airflow?")
        return [i for i in items if isinstance(i, dict)]

    # ------------------------------------------------------------------ one request

    def _ask(
        self, method: str, url: str, *, missing_ok: bool = False, authorised: bool = True, **more: Any
    ) -> Json | None:
        import stamina

        def backoff(error: Exception) -> bool | timedelta:
            if not isinstance(error, _Again):
                return False
            return True if error.after_s is None else timedelta(seconds=error.after_s)

        retrying = stamina.retry_context(
            on=backoff, attempts=self._attempts, timeout=4 * self._timeout_s, wait_initial=0.5, wait_max=10.0
        )
        try:
            for attempt in retrying:
                with attempt:
                    return self._once(method, url, missing_ok, authorised, more)
        except _Again as error:
            raise SourceUnavailableError(
                f"Airflow does not answer as it should: {error}",
                where=url,
                hint="it is asked again at the next pass; its own logs say more",
            ) from error
        raise AssertionError("stamina ends by an answer or an error")

    def _once(self, method: str, url: str, missing_ok: bool, authorised: bool, more: Mapping[str, Any]) -> Json | None:
        answer = self._authorised(method, url, more) if authorised else self._send(method, url, **more)
        if answer.status_code == 404 and missing_ok:
            return None
        self._refuse(answer, url)
        try:
            found = answer.json()
        except ValueError:  # cut off on its way, or a proxy's own page
            raise _Again(f"its answer is not JSON ({len(answer.content)} bytes)") from None
        if not isinstance(found, dict):
            raise _Again("its answer is not an object")
        return found

    def _authorised(self, method: str, url: str, more: Mapping[str, Any]) -> "httpx.Response":
        """Sent with credentials; refused ones are renewed once, for a token expires while it is in use."""
        if self._headers is None:
            self._headers = self._credential(self._send)
        answer = self._send(method, url, headers=self._headers, **more)
        if answer.status_code == 401:
            self._headers = self._credential(self._send)
            answer = self._send(method, url, headers=self._headers, **more)
        return answer

    def _send(self, method: str, url: str, **more: Any) -> "httpx.Response":
        import httpx

        if self._client is None:
            verify: Any = str(self._verify) if isinstance(self._verify, Path) else self._verify
            self._client = httpx.Client(
                timeout=self._timeout_s,
                verify=verify,
                transport=self._transport,
                headers={"Accept": "application/json"},
            )
        turn = self._budget.take()
        try:
            answer = self._client.request(method, url, **more)
        except httpx.TransportError as error:
            raise _Again(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        except httpx.HTTPError as error:
            raise SourceError(f"cannot ask Airflow: {error}", where=url, hint="check the url") from error
        finally:
            self._budget.answered(turn)
        self.clock.hear(answer.headers.get("date"))
        return answer

    def _refuse(self, answer: "httpx.Response", url: str) -> None:
        """Raise what the answer's status means, if it is not a good one."""
        status = answer.status_code
        if status in (408, 425, 429) or status >= 500:
            after = _retry_after(answer)
            if after is not None:
                self._budget.rest(after)
            raise _Again(f"HTTP {status}", after)
        if status == 401:
            raise SourceError(
                "Airflow refuses these credentials", where=url, hint="check auth, user and password of the [[source]]"
            )
        if status == 403:
            last = [p for p in url.split("?")[0].split("/") if p in _RIGHTS]
            right, role = _RIGHTS[last[-1]] if last else ("read this", "")
            has = f": {role} has it" if role else ""
            raise SourceError(f"the user may not {right}", where=url, hint=f"give its role the right to {right}{has}")
        if 300 <= status < 400:
            hint = f"it leads to {answer.headers.get('location', 'nowhere')}: a login page? check url and auth"
            raise SourceError("Airflow sends us elsewhere", where=url, hint=hint)
        if status >= 400:
            raise SourceError(f"Airflow refuses this question (HTTP {status}): {_said(answer)}", where=url)


def _retry_after(answer: "httpx.Response") -> float | None:
    text = answer.headers.get("retry-after", "")
    try:
        return min(float(text), TIMEOUT_S)
    except ValueError:
        return None


def _said(answer: "httpx.Response") -> str:
    text = answer.text.strip()
    return text[:200] or "no word"
