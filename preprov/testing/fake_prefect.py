"""A Prefect that is not there, behaving: the part of its REST API that reading needs, with filters and pages."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, TypeVar
from uuid import UUID, uuid5

import httpx

from preprov.contracts import Clock

Json = dict[str, Any]
T = TypeVar("T")
_SPACE = UUID("6d1a2f4e-8f53-4c1b-9d0a-5a3f6d7c8b90")


@dataclass
class FakeTaskRun:
    """A task run; `parents`: ids of those whose results it takes."""

    id: str
    base: str
    created: float
    parents: tuple[str, ...] = ()
    state: str = "PENDING"
    start: float | None = None
    end: float | None = None


@dataclass
class FakeFlowRun:
    """A flow run."""

    id: str
    flow: str
    created: float
    deployment: str = ""
    state: str = "RUNNING"
    expected: float | None = None
    start: float | None = None
    end: float | None = None
    auto: bool = False
    pending: float | None = None
    variables: Json = field(default_factory=dict)
    suspended: bool = False
    tasks: list[FakeTaskRun] = field(default_factory=list)
    parent: str | None = None
    pool: str = ""
    worker: str = ""
    parameters: Json = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    flow_version: str | None = None
    deployment_version: str | None = None


class FakePrefect:
    """One Prefect.

    Attributes:
        answers: how many requests it answers yet; None = all. skew_s: seconds that its clock is ahead of the one it is
            given. changed: what was written, and where. faults: asked before each answer; a response is sent instead.
        authorization: the header it wants, "" = none.
    """

    def __init__(self, clock: Clock, *, page: int = 200) -> None:
        """Nothing in it yet."""
        self._clock, self.page = clock, page
        self.runs: dict[str, FakeFlowRun] = {}
        self.deployments: dict[str, Json] = {}
        self.pools: dict[str, Json] = {}
        self.queues: list[Json] = []
        self.answers: int | None = None
        self.asked = 0
        self.skew_s = 0.0
        self.release = "3.8.8"
        self.authorization = ""
        self.faults: list[Callable[[httpx.Request], httpx.Response | None]] = []
        self.changed: list[tuple[str, Json]] = []
        self._number = 0

    # ------------------------------------------------------------------ the world

    def new_id(self) -> str:
        """The next id."""
        self._number += 1
        return str(uuid5(_SPACE, str(self._number)))

    def now(self) -> float:
        """Its time."""
        return self._clock.now().timestamp() + self.skew_s

    def deploy(
        self, flow: str, name: str, *schedules: Json, pool: str = "", queue: str = "default", **more: Any
    ) -> str:
        """A deployment; returns its id."""
        told = {
            "id": self.new_id(),
            "name": name,
            "flow_id": self._flow_id(flow),
            "flow": flow,
            "paused": False,
            "schedules": [{"active": True, "schedule": s} for s in schedules],
            "work_pool_name": pool or None,
            "work_queue_name": queue if pool else None,
            "concurrency_limit": None,
            "job_variables": {},
            **more,
        }
        self.deployments[told["id"]] = told
        return str(told["id"])

    def _flow_id(self, flow: str) -> str:
        return str(uuid5(_SPACE, f"flow {flow}"))

    def start_run(self, flow: str, *chain: str, **more: Any) -> FakeFlowRun:
        """A run whose tasks follow each other; it runs."""
        now = self.now()
        run = FakeFlowRun(**{"id": self.new_id(), "flow": flow, "created": now, "start": now, "expected": now, **more})
        for name in chain:
            before = (run.tasks[-1].id,) if run.tasks else ()
            run.tasks.append(FakeTaskRun(self.new_id(), name, now + len(run.tasks) * 1e-3, before))
        self.runs[run.id] = run
        return run

    def end_run(self, run: FakeFlowRun, state: str = "COMPLETED") -> None:
        """It and all its tasks end."""
        now = self.now()
        for t in run.tasks:
            t.start, t.end, t.state = t.start if t.start is not None else run.start, now, state
        run.end, run.state = now, state

    def delete_flow(self, flow: str) -> None:
        """It goes with its deployments and its runs."""
        self.deployments = {k: d for k, d in self.deployments.items() if d["flow"] != flow}
        self.runs = {k: r for k, r in self.runs.items() if r.flow != flow}

    def delete_deployment(self, deployment: str) -> None:
        """It goes, with what its schedules had made ahead; runs that began are their flow's."""
        del self.deployments[deployment]
        of = [r for r in self.runs.values() if r.deployment == deployment]
        for run in of:
            run.deployment = ""
            if run.state == "SCHEDULED":
                del self.runs[run.id]

    # ------------------------------------------------------------------ HTTP

    def transport(self) -> httpx.BaseTransport:
        """In place of the network."""
        return httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        answer = self._handled(request)
        answer.headers["date"] = format_datetime(datetime.fromtimestamp(int(self.now()), UTC), usegmt=True)
        return answer

    def _handled(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.answers is not None:
            if self.answers <= 0:
                return httpx.Response(500, text="Internal Server Error")
            self.answers -= 1
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return httpx.Response(401, json={"exception_message": "Unauthorized"})
        for fault in self.faults:
            answer = fault(request)
            if answer is not None:
                return answer
        return self.routed(request)

    def routed(self, request: httpx.Request) -> httpx.Response:
        """What it answers when nothing goes wrong."""
        path = request.url.path.removeprefix("/api")
        body = json.loads(request.content) if request.content else {}
        if request.method == "PATCH":
            return self._patch(path, body)
        found = self._answer(path, body, request)
        return httpx.Response(404, json={"detail": "Not Found"}) if found is None else httpx.Response(200, json=found)

    def _patch(self, path: str, body: Json) -> httpx.Response:
        place = self._place(path.strip("/").split("/"))
        if place is None:
            return httpx.Response(404, json={"detail": "Not Found"})
        place.update(body)
        self.changed.append((path, body))
        return httpx.Response(204)

    def _place(self, parts: Sequence[str]) -> Json | None:
        """A work pool, or a queue of it."""
        match parts:
            case ["work_pools", name]:
                return self.pools.get(name)
            case ["work_pools", pool, "queues", name]:
                return next((q for q in self.queues if (q["work_pool_name"], q["name"]) == (pool, name)), None)
        return None

    def _answer(self, path: str, body: Mapping[str, Any], request: httpx.Request) -> Any:
        match path.strip("/").split("/"):
            case ["admin", "version"]:
                return self.release
            case ["flows", "filter"]:
                names = {*(r.flow for r in self.runs.values()), *(d["flow"] for d in self.deployments.values())}
                return self._page([{"id": self._flow_id(n), "name": n} for n in sorted(names)], body)
            case ["deployments", "filter"]:
                return self._page(list(self.deployments.values()), body)
            case ["work_pools", "filter"]:
                return self._page(list(self.pools.values()), body)
            case ["work_pools", *_]:
                return self._place(path.strip("/").split("/"))
            case ["work_queues", "filter"]:
                return self._page(self.queues, body)
            case ["flow_runs", what]:
                return self._of_runs(what, body)
            case ["flow_run_states"]:
                return self._states(self.runs[request.url.params["flow_run_id"]])
            case ["task_runs", "filter"]:
                wanted = body["flow_runs"]["id"]["any_"]
                tasks = [self._task(self.runs[r], t) for r in wanted if r in self.runs for t in self.runs[r].tasks]
                return self._page(tasks, body)
        return None

    def _of_runs(self, what: str, body: Mapping[str, Any]) -> Any:
        if what == "count":
            return len(self.runs)
        if what == "filter":
            return [self._run(r) for r in self._page(self._runs(body), body)]
        return self._run(self.runs[what]) if what in self.runs else None

    def _page(self, items: Sequence[T], body: Mapping[str, Any]) -> list[T]:
        offset = int(body.get("offset", 0))
        return list(items[offset : offset + min(int(body.get("limit", 200)), self.page)])

    def _runs(self, body: Mapping[str, Any]) -> list[FakeFlowRun]:
        asked = body.get("flow_runs", {})
        states = asked.get("state", {}).get("type", {}).get("any_")
        ends = asked.get("end_time")
        first, last = (_at(ends["after_"]), _at(ends["before_"])) if ends else (0.0, 0.0)
        pools = body.get("work_pools", {}).get("name", {}).get("any_")
        out = []
        for run in self.runs.values():
            if pools is not None and self.deployments.get(run.deployment, {}).get("work_pool_name") not in pools:
                continue
            if states is not None and run.state not in states:
                continue
            if ends and not (run.end is not None and first <= run.end <= last):
                continue
            out.append(run)
        return sorted(out, key=lambda r: (r.expected or 0.0, r.id))

    def _states(self, run: FakeFlowRun) -> list[Json]:
        known = [("SCHEDULED", run.created), ("PENDING", run.pending), ("RUNNING", run.start)]
        return [{"type": kind, "timestamp": _iso(at)} for kind, at in known if at is not None]

    def _run(self, r: FakeFlowRun) -> Json:
        d = self.deployments.get(r.deployment, {})
        return {
            "id": r.id,
            "flow_id": self._flow_id(r.flow),
            "deployment_id": r.deployment or None,
            "state_type": r.state,
            "state_name": "Suspended" if r.suspended else r.state.capitalize(),
            "created": _iso(r.created),
            "expected_start_time": _iso(r.expected),
            "start_time": _iso(r.start),
            "end_time": _iso(r.end),
            "auto_scheduled": r.auto,
            "parent_task_run_id": r.parent,
            "work_pool_name": r.pool or d.get("work_pool_name"),
            "work_queue_name": d.get("work_queue_name"),
            "infrastructure_pid": "host-1:42" if r.start is not None and not self._inline(r) else None,
            "run_count": 1 if r.start is not None else 0,
            "job_variables": r.variables,
            "parameters": r.parameters,
            "tags": list(r.tags),
            "flow_version": r.flow_version if r.start is not None else None,
            "deployment_version": r.deployment_version,
            "labels": {"prefect.worker.name": r.worker} if r.worker else {},
        }

    @staticmethod
    def _inline(run: FakeFlowRun) -> bool:
        return run.parent is not None and not (run.deployment or run.pool)

    def _task(self, run: FakeFlowRun, t: FakeTaskRun) -> Json:
        return {
            "id": t.id,
            "flow_run_id": run.id,
            "name": f"{t.base}-{t.id[:3]}",
            "task_key": f"{t.base}-{t.id[:8]}",
            "state_type": t.state,
            "created": _iso(t.created),
            "start_time": _iso(t.start),
            "end_time": _iso(t.end),
            "run_count": 1,
            "task_inputs": {"x": [{"input_type": "task_run", "id": p} for p in t.parents]},
        }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
