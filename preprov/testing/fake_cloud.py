"""A cloud's API over HTTP on this machine: a table of routes, a clock the test moves, and faults on order.

What a cloud of its own adds is its table and its words for errors; see `fake_gcp` and `fake_azure`.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from preprov.contracts import Clock
from preprov.testing.agents import AgentHost, Agents
from preprov.testing.fake_machines import FakeMachine, Lead
from preprov.testing.fake_metadata import MetadataServer

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request, read. `parts`: what the route's pattern named in the path."""

    method: str
    path: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: Json
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What is sent back; `body` None = nothing but a status."""

    body: Json | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class ApiError(Exception):
    """A refusal, in the cloud's own code and words."""

    def __init__(self, status: int, code: str, message: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Route:
    """One kind of call. `pattern`: of the path, {x} = one part of it. `right`: what a caller needs; "" = nothing."""

    method: str
    pattern: str
    handler: Callable[[Call], Answer]
    right: str

    def match(self, method: str, path: str) -> Mapping[str, str] | None:
        """The named parts if this is the route; None if not."""
        if method != self.method:
            return None
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern), path)
        return found.groupdict() if found else None


@dataclass
class Faults:
    """What goes wrong. Each is off until a test sets it.

    Attributes:
        next: errors that the next calls get, in order; None = that call goes well.
        calls_per_s: of the clock; more are throttled.
        lose: endings of paths; the next answer to each is lost on its way, though what was asked for is done.
        lag_s: listings are this old. short: kinds of machines that there are none of. quota: machines there may be.
        denied: rights that the caller lacks.
    """

    next: deque[ApiError | None] = field(default_factory=deque)
    calls_per_s: int | None = None
    lose: list[str] = field(default_factory=list)
    lag_s: float = 0.0
    short: set[str] = field(default_factory=set)
    quota: int | None = None
    denied: set[str] = field(default_factory=set)
    expired: bool = False


class FakeCloud:
    """The server; a subclass gives the routes. Use as a context: it serves in a thread of its own until the end.

    Attributes:
        lead_s: how long machines take to come up, see `FakeMachine`; None = always as long.
        log: rights of the calls served, counted; `calls`: method and path of each, in order.

    Args:
        clock: of the cloud.
        agents: real ones for its machines; None = an agent is what `fake_machines` says that it would say.
    """

    kind = running = ""
    """The cloud, as an agent knows it, and its word for a machine that runs."""
    metadata: MetadataServer
    """What its machines ask; a subclass makes it."""

    def __init__(self, clock: Clock, agents: Agents | None = None) -> None:
        self.clock = clock
        self.faults = Faults()
        self.log: Counter[str] = Counter()
        self.calls: list[tuple[str, str]] = []
        self.lock = RLock()
        self.lead_s: Lead | None = None
        self.agents = AgentHost(clock, agents, self.lock, self._racked)
        self._second: tuple[int, int] = (0, 0)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def routes(self) -> tuple[Route, ...]:
        """All that can be called."""
        raise NotImplementedError

    def error_body(self, error: ApiError) -> Json:
        """An error in this cloud's form."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.metadata.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.metadata.__exit__()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, bool]:
        """The answer to a request, and whether it is lost on its way."""
        url = urlsplit(target)
        self.agents.catch_up()
        with self.lock:
            if method != "GET" and not self.is_of_an_agent(url.path):
                self.agents.wrote()
            self.calls.append((method, url.path))
            try:
                answer = self._answer(method, url.path, dict(parse_qsl(url.query)), body, headers)
            except ApiError as e:
                after = {} if e.retry_after_s is None else {"Retry-After": f"{e.retry_after_s:g}"}
                return Answer(self.error_body(e), e.status, after), False
            lost = next((end for end in self.faults.lose if method != "GET" and url.path.endswith(end)), None)
            if lost is not None:
                self.faults.lose.remove(lost)
            return answer, lost is not None

    # ---- agents

    def residents(self) -> Iterable[FakeMachine]:
        """All machines that exist."""
        raise NotImplementedError

    def _racked(self) -> dict[str, dict[str, str]]:
        """All machines, as `preprov.testing.rack` wants them."""
        now = self.clock.now()
        return {
            m.name: {
                "state": m.power(now, self.running),
                "boot": f"{m.name}-{m.boot}",
                "cloud": self.kind,
                "metadata": self.metadata.url(m.name),
                "api": self.url,
            }
            for m in self.residents()
        }

    def awake(self, name: str) -> FakeMachine | None:
        """The machine if an agent runs on it now."""
        now = self.clock.now()
        found = (m for m in self.residents() if m.name == name and m.power(now, self.running) == "up")
        return next(found, None)

    def is_of_an_agent(self, path: str) -> bool:
        """True for calls that machines make, not their controller."""
        return False

    def let_pass(self, seconds: float) -> None:
        """Let time go by in the midst of a call; other calls are served meanwhile."""
        self.lock.release()
        try:
            self.clock.sleep(seconds)
        finally:
            self.lock.acquire()

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        self._throttle()
        if self.faults.expired:
            raise ApiError(401, "authError", "the credentials have expired")
        fault = self.faults.next.popleft() if self.faults.next else None
        if fault is not None:
            raise fault
        for route in self.routes():
            parts = route.match(method, path)
            if parts is not None:
                if route.right in self.faults.denied:
                    raise ApiError(403, "forbidden", f"the caller lacks {route.right}")
                if route.right:
                    self.log[route.right] += 1
                return route.handler(Call(method, path, parts, query, json.loads(body or b"{}"), headers))
        raise ApiError(404, "notFound", f"no such call: {method} {path}")

    def _throttle(self) -> None:
        """Refuse what is too much in one second; time goes on a little with each refusal."""
        most = self.faults.calls_per_s
        if most is None:
            return
        second = int(self.clock.now().timestamp())
        count = self._second[1] + 1 if self._second[0] == second else 1
        self._second = (second, count)
        if count > most:
            self.let_pass(0.3)
            raise ApiError(429, "rateLimitExceeded", f"more than {most} calls per second", retry_after_s=0)


def _handler(cloud: FakeCloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k.lower(): v for k, v in self.headers.items()}
            answer, lost = cloud.serve(self.command, self.path, body, headers)
            if lost:
                self.close_connection = True
                return
            data = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
