"""A work pool of Prefect: its concurrency follows warm nodes, and process workers run on them.

Asked over Prefect's REST API. Only the limits and job variables that were named are ever written.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from preprov.contracts import PlaceSeen, Service
from preprov.launch.prefect_lease import PrefectLease, path_of_pool, path_of_queue
from preprov.model.errors import ConflictError, NotAuthorisedError, NotFoundError, PoolError
from preprov.model.nodes import Node
from preprov.model.resources import ZERO
from preprov.model.work import State, TaskRun, TaskSpec

PAGE: Final = 200
_TIMEOUT_S: Final = 10.0
_HOLDING: Final = ("PENDING", "RUNNING", "CANCELLING")
"""States in which a flow run counts against its work pool and its work queue."""
_VARIABLE: Final = "job variable "
_LEAVE: Final = "leave"


def limit_of_pool(work_pool: str) -> str:
    """Name of the setting."""
    return f"concurrency limit of work pool {work_pool}"


def limit_of_queue(work_pool: str, queue: str) -> str:
    """Name of the setting."""
    return f"concurrency limit of work queue {work_pool}/{queue}"


def job_variable(name: str) -> str:
    """Name of the setting: the default that the work pool gives to it."""
    return f"{_VARIABLE}{name}"


@dataclass(frozen=True)
class WorkerProgram:
    """How a worker is started on a node.

    Attributes:
        command: of `prefect_preprov.worker`, without options. queues: those it takes runs of; empty = all.
        env: variables it gets beside PREFECT_API_URL. fills: job variables that get the node's name.
        poll_s: seconds between its questions for runs.
    """

    command: tuple[str, ...]
    queues: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fills: tuple[str, ...] = ()
    poll_s: float = 5.0


class PrefectWorkPool:
    """One work pool.

    Args:
        service: what is to be done for it.
        url: of Prefect's API, with /api. key: looks the API key up; None = it wants none.
        work_pool: its name. queues: those whose limit follows too.
        program: how workers are started; None = they are not.
        lease_s: limits are put back by Prefect itself when nothing is heard of us for so long; 0 = they are not.
        transport: instead of the network.
    """

    def __init__(
        self,
        service: Service,
        url: str,
        key: Callable[[], str] | None,
        work_pool: str,
        queues: tuple[str, ...] = (),
        program: WorkerProgram | None = None,
        *,
        lease_s: float = 0.0,
        transport: Any = None,
    ) -> None:
        self.service = service
        self._url, self._key, self._transport = url.rstrip("/"), key, transport
        self._work_pool, self._queues, self._program = work_pool, queues, program
        self._lease = PrefectLease(service.name, self._url, self._headers, lease_s) if lease_s > 0 else None

    # ---- what is there

    def look(self) -> PlaceSeen:
        """As the contract says: some three requests."""
        with self._client() as http:
            pool = self._ask(http, "GET", self._path)
            settings: dict[str, object] = {limit_of_pool(self._work_pool): pool.get("concurrency_limit")}
            known = _variables(pool.get("base_job_template"))
            for name in self._filled:
                settings[job_variable(name)] = known.get(name, {}).get("default")
            for queue in self._queues:
                found = self._ask(http, "GET", f"{self._path}/queues/{quote(queue, safe='')}")
                settings[limit_of_queue(self._work_pool, queue)] = found.get("concurrency_limit")
            held, runs, began = self._running(http)
        return PlaceSeen(settings, held, {w: tuple(r) for w, r in runs.items()}, began)

    @property
    def _filled(self) -> list[str]:
        return [k.removeprefix(_VARIABLE) for k in self.service.fills if k.startswith(_VARIABLE)]

    @property
    def _path(self) -> str:
        return path_of_pool(self._work_pool)

    def _running(self, http: Any) -> tuple[dict[str, int], dict[str, list[str]], dict[str, datetime]]:
        held = {limit_of_pool(self._work_pool): 0, **{limit_of_queue(self._work_pool, q): 0 for q in self._queues}}
        runs: dict[str, list[str]] = {}
        began: dict[str, datetime] = {}
        offset, whole = 0, False
        while not whole:
            page = self._ask(
                http,
                "POST",
                "/flow_runs/filter",
                json={
                    "limit": PAGE,
                    "offset": offset,
                    "sort": "ID_DESC",
                    "flow_runs": {"state": {"type": {"any_": list(_HOLDING)}}},
                    "work_pools": {"name": {"any_": [self._work_pool]}},
                },
            )
            for run in page:
                held[limit_of_pool(self._work_pool)] += 1
                queue = limit_of_queue(self._work_pool, str(run.get("work_queue_name")))
                if queue in held:
                    held[queue] += 1
                worker = (run.get("labels") or {}).get("prefect.worker.name")
                if worker:
                    runs.setdefault(str(worker), []).append(str(run.get("id")))
                    if (at := _instant(run.get("start_time"))) is not None:
                        began[str(run.get("id"))] = at
            offset, whole = offset + len(page), len(page) < PAGE
        return held, runs, began

    # ---- what is set

    def write(self, changes: Mapping[str, object]) -> None:
        """As the contract says. A job variable that the work pool does not have is an error: none is invented."""
        variables = {k.removeprefix(_VARIABLE): v for k, v in changes.items() if k.startswith(_VARIABLE)}
        body: dict[str, Any] = {}
        if limit_of_pool(self._work_pool) in changes:
            body["concurrency_limit"] = changes[limit_of_pool(self._work_pool)]
        with self._client() as http:
            if variables:
                template = copy.deepcopy(self._ask(http, "GET", self._path).get("base_job_template") or {})
                self._fill(template, variables)
                body["base_job_template"] = template
            if body:
                self._ask(http, "PATCH", self._path, json=body)
            for queue in self._queues:
                name = limit_of_queue(self._work_pool, queue)
                if name in changes:
                    path = f"{self._path}/queues/{quote(queue, safe='')}"
                    self._ask(http, "PATCH", path, json={"concurrency_limit": changes[name]})

    def _fill(self, template: dict[str, Any], values: Mapping[str, object]) -> None:
        known = _variables(template)
        for name, value in values.items():
            if name not in known:
                raise PoolError(
                    f"work pool {self._work_pool} has no job variable {name!r}",
                    where=self._url,
                    hint=f"it has {', '.join(sorted(known)) or 'none'}",
                )
            if value is None:
                known[name].pop("default", None)
            else:
                known[name]["default"] = value

    # ---- the lease

    def hold_lease(self, found: Mapping[str, object]) -> None:
        """As the contract says, of limits; job variables stay as they were written."""
        if self._lease is None:
            return
        paths = {limit_of_pool(self._work_pool): self._path}
        paths |= {limit_of_queue(self._work_pool, q): path_of_queue(self._work_pool, q) for q in self._queues}
        limits = {path: _limit(found[name]) for name, path in paths.items() if name in found}
        with self._client() as http:
            self._lease.hold(partial(self._plain, http), limits)

    def end_lease(self) -> None:
        """As the contract says."""
        if self._lease is not None:
            with self._client() as http:
                self._lease.end(partial(self._plain, http))

    def _plain(self, http: Any, method: str, path: str, body: Any) -> Any:
        answer = self._answered(http, method, path, **({} if body is None else {"json": body}))
        try:
            return answer.json() if answer.content else None
        except ValueError as e:
            raise ConflictError("Prefect's answer is not JSON", where=f"{self._url}{path}", hint="ask again") from e

    # ---- workers

    def worker_name(self, node_id: str, serial: str) -> str:
        """As the contract says: Prefect takes neither / nor % in it."""
        return re.sub(r"[^A-Za-z0-9_.-]", "-", f"preprov-{self.service.name}-{node_id}-{serial}")

    def worker(self, node: Node, serial: str, slots: int) -> TaskRun:
        """As the contract says. Prefect's key is not handed to nodes: their image or profile brings it."""
        program = self._told()
        words = [*program.command, "start", "--pool", self._work_pool, "--name", self.worker_name(node.node_id, serial)]
        words += ["--limit", str(slots), "--poll", f"{program.poll_s:g}"]
        words += [w for q in program.queues for w in ("--queue", q)]
        words += [w for v in program.fills for w in ("--fill", f"{v}={node.node_id}")]
        return self._task(node, serial, "worker", words)

    def farewell(self, node: Node, serial: str) -> TaskRun:
        """As the contract says."""
        words = [*self._told().command, _LEAVE, "--name", self.worker_name(node.node_id, serial)]
        return self._task(node, serial, _LEAVE, words)

    def _told(self) -> WorkerProgram:
        if self._program is None:
            raise PoolError(f"{self.service.name} starts no workers", where="[[serve]]", hint="add [serve.worker]")
        return self._program

    def _task(self, node: Node, serial: str, task_id: str, words: list[str]) -> TaskRun:
        env = {"PREFECT_API_URL": self._url, "PREPROV_POOL": node.pool, **self._told().env}
        spec = TaskSpec(task_id, command=tuple(words), request=ZERO, env=MappingProxyType(env))
        run_id = f"preprov:serve:{self.service.name}:{node.node_id}:{serial}"
        return TaskRun(run_id, task_id, node.pool, spec, "", State.READY)

    # ---- asking

    def _client(self) -> Any:
        import httpx

        return httpx.Client(
            base_url=self._url,
            headers=self._headers(),
            timeout=_TIMEOUT_S,
            transport=self._transport,
            follow_redirects=True,
        )

    def _headers(self) -> dict[str, str]:
        key = self._key() if self._key is not None else ""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _ask(self, http: Any, method: str, path: str, **more: Any) -> Any:
        return self._read(self._answered(http, method, path, **more), f"{self._url}{path}", method)

    def _answered(self, http: Any, method: str, path: str, **more: Any) -> Any:
        """A good answer; what a bad one means is raised."""
        import httpx

        where = f"{self._url}{path}"
        try:
            answer = http.request(method, path, **more)
        except httpx.HTTPError as e:
            raise ConflictError(
                f"Prefect does not answer: {type(e).__name__}: {e}", where=where, hint="it is asked again"
            ) from e
        status = answer.status_code
        if status in (401, 403):
            hint = "it needs a key that may see flow runs and change work pools: `key` of the [[serve]]"
            raise NotAuthorisedError(f"Prefect refuses this key (HTTP {status})", where=where, hint=hint)
        if status == 404:
            raise NotFoundError(
                "Prefect has no such work pool or queue", where=where, hint="make it, or mend [[serve]]"
            )
        if status >= 500 or status in (408, 429):
            raise ConflictError(f"Prefect cannot serve now (HTTP {status})", where=where, hint="it is asked again")
        if not answer.is_success:
            raise PoolError(f"Prefect refuses this (HTTP {status}): {answer.text.strip()[:200]}", where=where)
        return answer

    def _read(self, answer: Any, where: str, method: str) -> Any:
        if method == "PATCH":
            return None
        try:
            found = answer.json()
        except ValueError as e:
            raise ConflictError(
                "Prefect's answer is not JSON", where=where, hint="is this a Prefect, with /api?"
            ) from e
        if method == "GET" and isinstance(found, dict):
            return found
        if method == "POST" and isinstance(found, list) and all(isinstance(i, dict) for i in found):
            return found
        raise ConflictError("Prefect's answer is not what was asked for", where=where, hint="is this a Prefect?")


def _instant(told: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(told).replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _limit(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _variables(template: Any) -> dict[str, dict[str, Any]]:
    """The job variables of a work pool's template, by name."""
    raw = template.get("variables") if isinstance(template, dict) else None
    properties = raw.get("properties") if isinstance(raw, dict) else None
    return {k: v for k, v in (properties or {}).items() if isinstance(v, dict)}
