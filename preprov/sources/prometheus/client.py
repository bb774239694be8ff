"""Prometheus' HTTP API within a budget: ranges, what it is, and errors in words that say what to do."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.sources.budget import RequestBudget

Json: TypeAlias = dict[str, Any]
_TIMEOUT_S: Final = 60.0
_ANNOTATIONS: Final = ("PromQL warning", "PromQL info")
"""Begin of warnings about the query; every other one says that a part of the data did not answer (Thanos, Mimir)."""
_TOO_MUCH: Final = ("too many samples", "maximum resolution", "too many points", "limit exceeded")
_GATEWAY_TIMEOUT: Final = 504
_SHORTER: Final = "make `chunk` shorter or `step` longer"
_AGAIN: Final = "it is asked again at the next pass; its own logs say more"


class TooMuchError(SourceError):
    """The answer would be larger than it gives at once: a shorter range may do."""


class TooSlowError(SourceUnavailableError):
    """It did not answer in time: a shorter range may do."""


@dataclass(frozen=True)
class Range:
    """Answer to a question over a time.

    Attributes:
        series: of each its labels and its points (epoch s, value). notes: what it says of the query.
    """

    series: tuple[tuple[Mapping[str, str], tuple[tuple[float, float], ...]], ...]
    notes: tuple[str, ...] = field(default=())


class PrometheusClient:
    """Asks one Prometheus.

    Args:
        url: without /api. headers: what proves who asks, looked up at each request.
        budget: one turn a request. verify: certificates, or a file of them. transport: instead of the network.
    """

    def __init__(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        budget: RequestBudget,
        *,
        verify: Any = True,
        transport: Any = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers, self._budget = headers, budget
        self._verify, self._transport = verify, transport
        self._http: Any = None

    def range(self, what: str, promql: str, start: float, end: float, step: float) -> Range:
        """The query at start, start + step, ... up to end (epoch s).

        Args:
            what: the query's name, for errors.

        Raises:
            TooMuchError, TooSlowError: ask for less at once. SourceError: the query is wrong, or may not be asked.
            SourceUnavailableError: it does not answer, or not wholly: nothing of this range is to be believed.
        """
        asked = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        body = self._ask(what, "/api/v1/query_range", asked)
        data = body.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "matrix":
            raise SourceUnavailableError(f"query {what}: its answer is no range", where=self.url, hint=_AGAIN)
        warnings = [str(w) for w in body.get("warnings") or ()]
        partial = [w for w in warnings if not w.startswith(_ANNOTATIONS)]
        if partial:
            raise SourceUnavailableError(
                f"query {what}: only a part answered: {partial[0]}", where=self.url, hint=_AGAIN
            )
        notes = dict.fromkeys([*warnings, *(str(i) for i in body.get("infos") or ())])
        try:
            series = tuple(_series(data["result"]))
        except (KeyError, TypeError, ValueError) as e:
            raise SourceUnavailableError(
                f"query {what}: its answer makes no sense ({type(e).__name__})", where=self.url, hint=_AGAIN
            ) from e
        return Range(series, tuple(f"query {what}: {n}" for n in notes))

    def now(self) -> float:
        """What time it is there, epoch s."""
        body = self._ask("time()", "/api/v1/query", {"query": "time()"})
        try:
            return float(body["data"]["result"][1])
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise SourceUnavailableError("it does not say what time it is", where=self.url, hint=_AGAIN) from e

    def version(self) -> str:
        """Of the program; "" if it does not say (not every one that answers like Prometheus does)."""
        try:
            body = self._ask("buildinfo", "/api/v1/status/buildinfo", {})
        except SourceUnavailableError:
            raise
        except SourceError:
            return ""
        data = body.get("data")
        return str(data.get("version") or "") if isinstance(data, dict) else ""

    def _ask(self, what: str, path: str, form: Mapping[str, str]) -> Json:
        import httpx

        if self._http is None:
            self._http = httpx.Client(
                timeout=_TIMEOUT_S, verify=self._verify, transport=self._transport, follow_redirects=True
            )
        where = f"{self.url}{path}"
        turn = self._budget.take()
        try:
            headers = dict(self._headers())
            if form:
                answer = self._http.post(where, data=dict(form), headers=headers)
            else:
                answer = self._http.get(where, headers=headers)
        except httpx.ReadTimeout as e:
            raise TooSlowError(
                f"Prometheus did not answer within {_TIMEOUT_S:g} s: ReadTimeout", where=where, hint=_SHORTER
            ) from e
        except httpx.HTTPError as e:
            raise SourceUnavailableError(
                f"Prometheus does not answer: {type(e).__name__}: {e}", where=where, hint=_AGAIN
            ) from e
        finally:
            self._budget.answered(turn)
        return self._read(what, where, answer)

    def _read(self, what: str, where: str, answer: Any) -> Json:
        status = answer.status_code
        if status in (401, 403):
            hint = "say `token`, or `user` and `password`, of somebody who may query it"
            raise SourceError(f"Prometheus refuses us (HTTP {status})", where=where, hint=hint)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if isinstance(body, dict) and body.get("status") == "error":
            raise self._refusal(what, where, status, str(body.get("errorType")), str(body.get("error")))
        if status == _GATEWAY_TIMEOUT:
            raise TooSlowError("a proxy did not wait for Prometheus (HTTP 504)", where=where, hint=_SHORTER)
        if status in (408, 429) or status >= 500:
            raise SourceUnavailableError(f"Prometheus cannot answer now (HTTP {status})", where=where, hint=_AGAIN)
        if status == 404:
            hint = "the url is that of Prometheus itself, without /api; behind a proxy with its path"
            raise SourceError("this address answers, but not as a Prometheus", where=where, hint=hint)
        if not answer.is_success:
            raise SourceError(f"Prometheus refuses this (HTTP {status}): {answer.text.strip()[:200]}", where=where)
        if not isinstance(body, dict) or body.get("status") != "success":
            raise SourceUnavailableError("its answer is not whole, or not JSON", where=where, hint=_AGAIN)
        return body

    def _refusal(self, what: str, where: str, status: int, kind: str, said: str) -> SourceError:
        if any(t in said for t in _TOO_MUCH):
            return TooMuchError(f"query {what}: {said}", where=where, hint=_SHORTER)
        if kind == "timeout":
            return TooSlowError(f"query {what}: {kind}: {said}", where=where, hint=_SHORTER)
        if kind == "bad_data":
            return SourceError(f"query {what} is not understood: {said}", where=where, hint="try it in its own page")
        if kind == "execution" and status < 500:
            return SourceError(
                f"query {what} cannot be carried out: {said}", where=where, hint="try it in its own page"
            )
        return SourceUnavailableError(f"query {what}: {kind}: {said}", where=where, hint=_AGAIN)


def _series(result: Any) -> Iterator[tuple[Mapping[str, str], tuple[tuple[float, float], ...]]]:
    """What cannot be a use of anything (no number, infinite, below zero) is left out: it is not known, and not 0."""
    for one in result:
        labels = {str(k): str(v) for k, v in dict(one["metric"]).items()}
        points = ((float(t), float(v)) for t, v in one.get("values") or ())
        yield labels, tuple((t, v) for t, v in points if math.isfinite(v) and v >= 0)
