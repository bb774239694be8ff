"""Prefect's own client, within a budget: it knows how to prove who asks, and it retries; nothing here does so again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from preprov.contracts import Clock
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.model.time import epoch
from preprov.sources.budget import RequestBudget
from preprov.sources.skew import HeardClock

Json: TypeAlias = dict[str, Any]

PAGE: Final = 200
"""Most items that a server gives at once."""
_OVERLAP: Final = 20
_REFUSED: Final = 401
_HINTS: Final = {
    _REFUSED: "Prefect does not know who asks: check `key` of the [[source]] (Prefect Cloud) or `auth` (user:password)",
    403: "the key may not read this: it needs a role that may see flow runs, deployments and work pools",
}


@dataclass(frozen=True)
class Secrets:
    """How to prove to a Prefect who asks; each is looked up anew when it is needed, None = there is none.

    Attributes:
        key: API key of Prefect Cloud. auth: `user:password` of a server of one's own.
    """

    key: Callable[[], str] | None = None
    auth: Callable[[], str] | None = None

    def read(self) -> tuple[str | None, str | None]:
        """(key, auth), as they are now."""
        return (None if self.key is None else self.key(), None if self.auth is None else self.auth())


class PrefectReader:
    """Asks one Prefect.

    Args:
        url: of its API, with /api. secrets: who asks. budget: one turn a request.
        clock: ours, to hear by how much Prefect's differs. transport: instead of the network.
    """

    def __init__(
        self, url: str, secrets: Secrets, budget: RequestBudget, clock: Clock, *, transport: Any = None
    ) -> None:
        self.url = url.rstrip("/")
        self.clock = HeardClock(lambda: epoch(clock.now()))
        self._secrets, self._budget, self._transport = secrets, budget, transport
        self._client: Any = None
        self._proof: tuple[str | None, str | None] = (None, None)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """What is at this path; None if there is nothing."""
        return self._ask("GET", path, params=params)

    def filtered(self, path: str, body: Json) -> list[Json]:
        """One answer of at most PAGE items."""
        found = self._ask("POST", path, json={"limit": PAGE, **body})
        if not isinstance(found, list):
            raise SourceUnavailableError("its answer is no list", where=f"{self.url}{path}", hint="is this a Prefect?")
        return [item for item in found if isinstance(item, dict)]

    def all(self, path: str, body: Json) -> Iterator[Json]:
        """Every item of a list once, a page after the other.

        While somebody reads, items leave the list (runs end, a flow is deleted) and those behind move up. So a page
        begins with the last items of the one before; if it has none of them, some were stepped over, and it goes back.
        """
        offset, told = 0, set[str]()
        while True:
            page = self.filtered(path, {**body, "offset": offset})
            new = [item for item in page if str(item.get("id")) not in told]
            yield from new
            told.update(str(item["id"]) for item in new if "id" in item)
            if offset and page and len(new) == len(page) and all("id" in item for item in page):
                offset = max(offset - PAGE + _OVERLAP, 0)
            elif len(page) < PAGE:
                return
            else:
                offset += PAGE - _OVERLAP

    def count(self, path: str, body: Json) -> int:
        """How many items there are."""
        found = self._ask("POST", path, json=body)
        return int(found) if isinstance(found, int) else 0

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        import httpx
        from prefect.exceptions import PrefectHTTPStatusError

        client = self._connected()
        turn = self._budget.take()
        where = f"{self.url}{path}"
        try:
            answer = client.request(method, path, **more)
            self.clock.hear(answer.headers.get("date"))
            return answer.json()
        except PrefectHTTPStatusError as error:
            status = error.response.status_code
            if status == 404:
                return None
            if status == _REFUSED and self._renewed():
                return self._ask(method, path, **more)
            if status in _HINTS:
                raise SourceError(f"HTTP {status}", where=where, hint=_HINTS[status]) from error
            if status >= 500 or status in (408, 429):
                raise _unavailable(f"HTTP {status}", where) from error
            said = error.response.text.strip()[:200]
            raise SourceError(f"Prefect refuses this question (HTTP {status}): {said}", where=where) from error
        except ValueError as error:
            raise _unavailable("its answer is not JSON", where) from error
        except httpx.HTTPError as error:
            raise _unavailable(f"{type(error).__name__}: {error}", where) from error
        finally:
            self._budget.answered(turn)

    def _connected(self) -> Any:
        if self._client is None:
            from prefect.client.orchestration import SyncPrefectClient

            settings = {} if self._transport is None else {"transport": self._transport}
            self._proof = self._secrets.read()
            key, auth = self._proof
            self._client = SyncPrefectClient(self.url, api_key=key, auth_string=auth, httpx_settings=settings)
        return self._client

    def _renewed(self) -> bool:
        """Whether there is another secret by now; the next request is made with it."""
        if self._secrets.read() == self._proof:
            return False
        self._client = None
        return True


def _unavailable(why: str, where: str) -> SourceUnavailableError:
    hint = "it is asked again at the next pass; its own logs say more"
    return SourceUnavailableError(f"Prefect does not answer as it should: {why}", where=where, hint=hint)
