"""A small Prometheus: ranges of series that are functions of time, and whatever else it may answer."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import httpx

from preprov.contracts import Clock

Series: TypeAlias = tuple[Mapping[str, str], Callable[[float], object]]
"""Labels, and the value at an epoch second; None = there is none."""


class FakePrometheus:
    """Answers through a transport of httpx.

    Attributes:
        series: query -> its series. asked: ranges that were asked for. most: points that it loads of a series.
        instead: answers, or errors of httpx, given in turn instead of its own; None = its own.
        answers: answered before it refuses; None = always. skew: seconds its clock is ahead.
    """

    def __init__(self, clock: Clock, *, skew: float = 0.0) -> None:
        self.clock, self.skew = clock, skew
        self.series: dict[str, list[Series]] = {}
        self.asked: list[dict[str, str]] = []
        self.instead: list[httpx.Response | Exception | None] = []
        self.answers: int | None = None
        self.most = 10**9

    def transport(self) -> httpx.MockTransport:
        """Instead of the network."""
        return httpx.MockTransport(self.handle)

    def now(self) -> float:
        """Epoch seconds there."""
        return self.clock.now().timestamp() + self.skew

    def handle(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        if self.answers is not None:
            if self.answers <= 0:
                return httpx.Response(503)
            self.answers -= 1
        form = {k: v[0] for k, v in parse_qs(request.content.decode()).items()}
        if request.url.path.endswith("/query"):
            return ok({"resultType": "scalar", "result": [0, str(self.now())]})
        if request.url.path.endswith("/buildinfo"):
            return ok({"version": "2.42.0"})
        self.asked.append(form)
        if self.instead:
            answer = self.instead.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                return answer
        return self.range(form)

    def range(self, form: Mapping[str, str]) -> httpx.Response:
        """What a query of a range brings."""
        start, end, step = (float(form[k]) for k in ("start", "end", "step"))
        at = [start + i * step for i in range(int((end - start) / step) + 1)]
        if len(at) > self.most:
            return refused("execution", "query processing would load too many samples into memory", 422)
        result, now = [], self.now()
        for labels, value in self.series.get(form["query"], ()):
            values = [[t, str(v)] for t in at if t <= now and (v := value(t)) is not None]
            if values:
                result.append({"metric": labels, "values": values})
        return ok({"resultType": "matrix", "result": result})


def ok(data: Any, **more: Any) -> httpx.Response:
    """A good answer."""
    return httpx.Response(200, json={"status": "success", "data": data, **more})


def refused(kind: str, said: str, status: int) -> httpx.Response:
    """An error, as it says them."""
    return httpx.Response(status, json={"status": "error", "errorType": kind, "error": said})
