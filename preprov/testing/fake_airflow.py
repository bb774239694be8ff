"""An Airflow that is not there, behaving: its REST API of 3.x and of 2.x, with its pages, filters and faults.

Its DAGs and runs are those of `fake_airflow_world`. What goes wrong is scripted.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import httpx

from preprov.contracts import Clock
from preprov.testing.fake_airflow_world import AirflowWorld, FakeAsset, FakeDag, FakeRun, FakeTask, Json


class FakeAirflow(AirflowWorld):
    """One Airflow. `asked` counts requests, `log` names them."""

    def __init__(self, clock: Clock, *, version: Literal["v1", "v2"] = "v2", page: int = 100) -> None:
        """Nothing in it yet."""
        super().__init__(clock)
        self.version, self.page = version, page
        self.release = "3.3.2" if version == "v2" else "2.11.2"
        self.latency_s = 0.0
        self.asked = 0
        self.log: list[tuple[float, str]] = []
        self.answers: int | None = None
        self.faults: list[Callable[[httpx.Request], httpx.Response | None]] = []
        self.token = "secret-0"  # noqa: S105
        self.password = "pw"  # noqa: S105
        self.logins = 0
        self.forbidden: set[str] = set()

    # ------------------------------------------------------------------ HTTP

    def transport(self) -> httpx.BaseTransport:
        """In place of the network."""
        return httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.asked += 1
        self.log.append((self._clock.now().timestamp(), f"{request.method} {request.url.path}"))
        if self.answers is not None:
            if self.answers <= 0:
                raise httpx.ConnectError("nothing answers", request=request)
            self.answers -= 1
        if self.latency_s:
            self._clock.sleep(self.latency_s)
        for fault in list(self.faults):
            if (answer := fault(request)) is not None:
                return self._dated(answer)
        return self._dated(self._routed(request))

    def _dated(self, answer: httpx.Response) -> httpx.Response:
        answer.headers["date"] = format_datetime(datetime.fromtimestamp(int(self.now()), UTC), usegmt=True)
        return answer

    def _routed(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().split("?")[0]
        if path == "/auth/token" and self.version == "v2":
            return self._login(request)
        root = f"/api/{self.version}/"
        if not path.startswith(root):
            return httpx.Response(404, text="<html>Airflow 404 = lots of circles</html>")
        parts = [unquote(p) for p in path[len(root) :].split("/")]
        if parts == ["version"]:
            return httpx.Response(200, json={"version": self.release})
        if request.headers.get("authorization") not in self._accepted():
            return httpx.Response(401, json={"detail": "Invalid JWT token"})
        if self.forbidden.intersection(parts):
            return httpx.Response(403, json={"detail": "Forbidden"})
        found = self._answer(parts, request)
        return httpx.Response(404, json={"detail": "not found"}) if found is None else _json(found)

    def _accepted(self) -> tuple[str, ...]:
        if self.version == "v2":
            return (f"Bearer {self.token}",)
        return ("Basic bWU6cHc=",)  # me:pw

    def _login(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and json.loads(request.content or b"{}").get("password") != self.password:
            return httpx.Response(401, json={"detail": "Invalid credentials"})
        self.logins += 1
        return httpx.Response(201, json={"access_token": self.token})

    def _answer(self, parts: list[str], request: httpx.Request) -> Json | None:
        params = {k: v for k, v in parse_qs(request.url.query.decode(), keep_blank_values=True).items()}
        match parts:
            case ["dags"]:
                return self._page("dags", [self._dag(d) for d in self._listed(params)], params)
            case ["dags", "~", "dagRuns"]:
                return self._page("dag_runs", self._runs(params), params, self._run)
            case ["dags", "~", "dagRuns", "~", "taskInstances"]:
                return self._page("task_instances", self._changed(params), params, self._task)
            case ["dags", "~", "dagRuns", "~", "taskInstances", "list"]:
                body = json.loads(request.content)
                paged = {"limit": [str(body.get("page_limit", 100))], "offset": [str(body.get("page_offset", 0))]}
                return self._page("task_instances", self._of_runs(body), paged, self._task)
            case ["pools"]:
                return self._page("pools", [self._pool(*p) for p in self.pools.items()], params)
            case ["assets"] if self.version == "v2":
                return self._page("assets", self.assets, params, self._asset)
            case ["datasets"] if self.version == "v1":
                return self._page("datasets", self.assets, params, self._asset)
            case ["variables", name] if name in self.variables:
                return {"key": name, "value": self.variables[name]}
            case ["dags", dag_id, *rest] if dag_id in self.dags:
                return self._of_dag(self.dags[dag_id], rest)
        return None

    def _of_dag(self, dag: FakeDag, rest: Sequence[str]) -> Json | None:
        match rest:
            case []:
                return self._dag(dag)
            case ["details"]:
                return self._details(dag)
            case ["tasks"]:
                return {"tasks": [self._definition(*t) for t in dag.tasks]}
            case ["dagRuns", run_id] if (dag.dag_id, run_id) in self.runs:
                return self._run(self.runs[dag.dag_id, run_id])
            case ["dagRuns", run_id, "taskInstances", task_id, *mapped, "tries"] if self._keeps_tries():
                run = self.runs.get((dag.dag_id, run_id))
                task = run and run.tasks.get((task_id, int(mapped[0]) if mapped else -1))
                return self._tries(run, task) if run and task else None
        return None

    def _keeps_tries(self) -> bool:
        return [int(n) for n in self.release.split(".")[:2]] >= [2, 10]

    def _tries(self, run: FakeRun, task: FakeTask) -> Json:
        """Those that are over, then the present one; of one that waits to be tried again 2.x tells twice."""
        twice = task.state == "up_for_retry" and self.version == "v2"
        found = [self._task((run, t)) for t in (*task.before, *(() if twice else (task,)))]
        for told in found:
            for name in ("id", "trigger", "rendered_fields"):
                told.pop(name, None)
        return {"task_instances": found, "total_entries": len(found)}

    def _page(self, key: str, items: Sequence[Any], params: Mapping[str, list[str]], tell: Any = None) -> Json:
        limit = min(int(params.get("limit", ["50"])[0]), self.page)
        offset = int(params.get("offset", ["0"])[0])
        part = items[offset : offset + limit]
        return {key: [tell(i) for i in part] if tell else part, "total_entries": len(items)}

    # ------------------------------------------------------------------ lists

    def _listed(self, params: Mapping[str, list[str]]) -> list[FakeDag]:
        paused = params.get("paused", [""])[0]
        found = [self.dags[d] for d in sorted(self.dags)]
        return [d for d in found if not paused or d.paused == (paused == "true")]

    def _runs(self, params: Mapping[str, list[str]]) -> list[FakeRun]:
        if "state" in params:
            found = [r for r in self._open.values() if r.state in params["state"]]
        elif "end_date_gte" in params:
            lo, hi = (_at(params[k][0]) for k in ("end_date_gte", "end_date_lte"))
            first = bisect_left(self._ends, lo, key=lambda e: e[0])
            found = []
            for end, _, run in self._ends[first:]:
                if end > hi:
                    break
                found.append(run)
        else:
            found = list(self.runs.values())
        return sorted(found, key=lambda r: r.number)

    def _changed(self, params: Mapping[str, list[str]]) -> list[tuple[FakeRun, FakeTask]]:
        if "updated_at_gte" not in params:
            states = params.get("state")
            return [(r, t) for r in self.runs.values() for t in r.tasks.values() if not states or t.state in states]
        if not self._in_order:
            self._changes.sort(key=lambda c: c[:2])
            self._in_order = True
        first = bisect_left(self._changes, _at(params["updated_at_gte"][0]), key=lambda c: c[0])
        found = {id(t): (r, t) for _, _, r, t in self._changes[first:]}
        return sorted(found.values(), key=lambda x: x[1].number)

    def _of_runs(self, body: Json) -> list[tuple[FakeRun, FakeTask]]:
        keys = ((d, r) for r in body["dag_run_ids"] for d in body["dag_ids"])
        runs = [self.runs[k] for k in keys if k in self.runs]
        return [(r, t) for r in runs for t in r.tasks.values()]

    # ------------------------------------------------------------------ JSON

    def _asset(self, a: FakeAsset) -> Json:
        dags = [{"dag_id": d} for d in a.dags]
        told = {"uri": a.uri, "producing_tasks": [{"dag_id": d, "task_id": t} for d, t in a.makers]}
        if self.version == "v1":
            return {**told, "consuming_dags": dags}
        return {**told, "name": a.uri, "scheduled_dags": dags, "aliases": [{"name": n} for n in a.aliases]}

    def _pool(self, name: str, slots: int) -> Json:
        return {"name": name, "slots": slots, "include_deferred": name in self.deferring}

    def _dag(self, d: FakeDag) -> Json:
        common: Json = {
            "dag_id": d.dag_id,
            "is_paused": d.paused,
            "max_active_runs": d.max_active_runs,
            "max_active_tasks": d.max_active_tasks,
            "owners": [d.owner],
            "tags": [],
        }
        if self.version == "v2":
            return {**common, "timetable_summary": d.timetable, "next_dagrun_run_after": _iso(d.next_run)}
        return {**common, "schedule_interval": d.interval, "next_dagrun_create_after": _iso(d.next_run)}

    def _details(self, d: FakeDag) -> Json:
        latest = {"latest_dag_version": _version(d)} if self.version == "v2" else {}
        condition = {"asset_expression" if self.version == "v2" else "dataset_expression": d.condition}
        return {**self._dag(d), "timezone": d.zone, "end_date": _iso(d.end_date), **condition, **latest}

    def _definition(self, task_id: str, children: Sequence[str], settings: Mapping[str, Any]) -> Json:
        operator = settings.get("operator", "PythonOperator")
        return {
            "task_id": task_id,
            "downstream_task_ids": list(children),
            "trigger_rule": "all_success",
            "queue": settings.get("queue", "default"),
            "pool": settings.get("pool", "default_pool"),
            "pool_slots": float(settings.get("pool_slots", 1)),
            "priority_weight": float(settings.get("priority_weight", 1)),
            "is_mapped": False,
            "class_ref": {"class_name": operator},
            **({"operator_name": operator} if self.version == "v2" else {}),
        }

    def _run(self, r: FakeRun) -> Json:
        common: Json = {
            "dag_id": r.dag_id,
            "dag_run_id": r.run_id,
            "run_type": r.kind,
            "state": r.state,
            "start_date": _iso(r.start),
            "end_date": _iso(r.end),
            "logical_date": _iso(r.turn if r.turn is not None else r.queued),
            "conf": {},
        }
        if self.version == "v2":
            after = r.turn if r.turn is not None else r.queued
            versions = [_version(r)]
            return {**common, "queued_at": _iso(r.queued), "run_after": _iso(after), "dag_versions": versions}
        return {**common, "data_interval_end": _iso(r.turn), "external_trigger": r.kind == "manual"}

    def _task(self, pair: tuple[FakeRun, FakeTask]) -> Json:
        r, t = pair
        told = {
            "dag_id": r.dag_id,
            "dag_run_id": r.run_id,
            "task_id": t.task_id,
            "map_index": t.map_index,
            "state": t.state,
            "queued_when": _iso(t.queued),
            "start_date": _iso(t.start),
            "end_date": _iso(t.end),
            "try_number": t.tries,
            "max_tries": 0,
            "pool": t.pool,
            "pool_slots": t.pool_slots,
            "hostname": t.hostname,
            "queue": t.queue,
            "priority_weight": t.priority_weight,
            "operator": t.operator,
            "executor_config": t.executor_config,
            "trigger": None if t.slept is None else {"id": t.number, "created_date": _iso(t.slept)},
            "rendered_fields": t.rendered if t.start is not None else {},
        }
        newer = {"id": str(t.number), "scheduled_when": _iso(t.scheduled), "dag_version": _version(r)}
        return {**told, **newer} if self.version == "v2" else told


def _version(of: FakeDag | FakeRun) -> Json:
    return {"version_number": of.version, "bundle_version": of.bundle}


def _json(body: Json) -> httpx.Response:
    return httpx.Response(200, content=json.dumps(body).encode(), headers={"content-type": "application/json"})


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
