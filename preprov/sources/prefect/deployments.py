"""What a Prefect declares: deployments with schedules and job variables, work pools and queues with their limits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import SyncBatch
from preprov.model.signature import TaskTraits
from preprov.model.signature_sources import prefect
from preprov.model.time import epoch, from_epoch
from preprov.model.waits import Cause, SlotLimit
from preprov.sources.instants import NAN
from preprov.sources.prefect.client import PrefectReader
from preprov.sources.prefect.facts import Deployment, FlowRun, requests, schedule_of
from preprov.sources.prefect.runs import Seen, Shape, limit_of, shapes_of
from preprov.sources.text import clean

_PREFIX: Final = "dag/"


class Declared:
    """Asked for at each pass: a few questions."""

    def __init__(self, reader: PrefectReader, source: str, tenant: str, zone: str) -> None:
        """Nothing yet."""
        self._reader, self._source, self._zone = reader, source, zone
        self.tenant = tenant
        self.shapes: dict[str, Shape] = {}
        self.limited: frozenset[tuple[str, str]] = frozenset()
        self._paused: frozenset[tuple[str, str]] = frozenset()
        self._ranks: dict[tuple[str, str], int] = {}
        self._flows: dict[str, str] = {}
        self._deployments: dict[str, Deployment] = {}
        self._pools: dict[str, dict[str, Any]] = {}
        self._unwritten: dict[str, str | None] = {}
        self._known = False
        self._told: object = None

    def remember(self, notebook: Mapping[str, str]) -> None:
        """What DAGs looked like, as an earlier process wrote it down."""
        if self._known:
            return
        self._known = True
        for key, text in notebook.items():
            shape = Shape.load(text) if key.startswith(_PREFIX) else None
            if shape is not None:
                self.shapes[key[len(_PREFIX) :]] = shape

    def batch(self, scheduled: Sequence[FlowRun], now: datetime, shift_s: float) -> SyncBatch:
        """Ask, and tell what is declared; `shift_s`: from Prefect's time to ours."""
        limits = self._ask()
        turns: dict[str, list[datetime]] = {}
        for run in scheduled:
            if run.auto and run.expected == run.expected:
                turns.setdefault(run.deployment_id, []).append(from_epoch(run.expected))
        plans, queues, shapes = [], {}, {}
        for d in self._deployments.values():
            dag = self._name(d.flow_id, d)
            due = sorted(turns.get(d.deployment_id, ()))
            plan = schedule_of(dag, d, due, self.tenant, self._zone, None, shift_s)
            plans.append(replace(plan, priority=self.priority(d.pool, d.queue)))
            queues[dag] = (f"{d.pool}/{d.queue}" if d.pool else "",)
            shapes[dag] = self._shape_run(d, dag, epoch(now))
        looks = (tuple(plans), limits, tuple(s.looks for s in shapes.values()), tuple(queues.items()))
        notes = tuple(f"Prefect: {what} is paused: what it holds is not expected" for what in self._paused_names())
        if looks == self._told:
            return SyncBatch(notebook=self.written(), notes=notes)
        self._told = looks
        return SyncBatch(
            schedules=tuple(plans),
            dag_queues=queues,
            shapes=shapes_of(shapes),
            limits=limits,
            notebook=self.written(),
            notes=notes,
        )

    def tell_again(self) -> None:
        """Whatever was told last, nobody may have kept it."""
        self._told = None
        self._unwritten = {_PREFIX + dag: shape.dump() for dag, shape in self.shapes.items()}

    def _ask(self) -> tuple[SlotLimit, ...]:
        flows = self._reader.all("/flows/filter", {"sort": "CREATED_DESC"})
        self._flows = {str(f.get("id")): clean(f.get("name")) for f in flows}
        listed = self._reader.all("/deployments/filter", {"sort": "CREATED_DESC"})  # many may have the same name
        found = [Deployment.of(d) for d in listed if d.get("id")]
        self._pools = {clean(p.get("name")): p for p in self._reader.all("/work_pools/filter", {})}
        out = [
            SlotLimit(Cause.WORK_POOL, name, float(pool["concurrency_limit"]))
            for name, pool in sorted(self._pools.items())
            if pool.get("concurrency_limit") is not None
        ]
        limited, ranks, paused = set(), {}, set()
        for queue in self._reader.all("/work_queues/filter", {}):
            pool = clean(queue.get("work_pool_name"))
            ranks[pool, clean(queue.get("name"))] = queue.get("priority")
            if queue.get("is_paused"):
                paused.add((pool, clean(queue.get("name"))))
            if pool and queue.get("concurrency_limit") is not None:
                limited.add((pool, clean(queue.get("name"))))
                name = f"{pool}/{clean(queue.get('name'))}"
                out.append(SlotLimit(Cause.WORK_QUEUE, name, float(queue["concurrency_limit"])))
        self.limited, self._paused = frozenset(limited), frozenset(paused)
        self._deployments = {
            d.deployment_id: replace(d, paused=d.paused or self.paused(d.pool, d.queue)) for d in found
        }
        self._ranks = {k: rank for k, rank in ranks.items() if isinstance(rank, int)}
        runs = [(self._name(d.flow_id, d), d.limit) for d in self._deployments.values()]
        out += [SlotLimit(Cause.MAX_ACTIVE_RUNS, dag, float(limit)) for dag, limit in runs if limit is not None]
        return tuple(out)

    def _shape_run(self, d: Deployment, dag: str, at: float) -> Seen:
        today, nothing = at // 86_400 * 86_400, NAN
        run = FlowRun(
            f"as declared/{d.deployment_id}", d.flow_id, d.deployment_id, "PENDING", today, nothing, nothing, nothing,
            auto=True, nested=False, suspended=False, pool=d.pool, queue=d.queue, host="", runs=0, told=d.told,
        )  # fmt: skip
        queue = f"{d.pool}/{d.queue}" if d.pool else ""
        limit = limit_of(self._source, d.pool, d.queue, self.limited)
        shape, traits, rank = self.shapes.get(dag), self.traits(run), self.priority(d.pool, d.queue)
        how = (self._zone, self.tenant, queue, limit, rank, traits)
        return Seen(run, dag, (), shape, self.asks(run), "", *how, image=self.image(run))

    # ------------------------------------------------------------------ knowing

    def _name(self, flow_id: str, deployment: Deployment | None) -> str:
        flow = self._flows.get(flow_id) or flow_id or "flow"
        return f"{flow}/{deployment.name}" if deployment is not None else flow

    def dag(self, run: FlowRun) -> str:
        """Its flow and its deployment, `etl/nightly`; a run without a deployment is its flow's."""
        return self._name(run.flow_id, self._deployments.get(run.deployment_id))

    def asks(self, run: FlowRun) -> tuple[float, float, float]:
        """Cores, GiB, GPUs: by the run's own job variables, else its deployment's, else its work pool's defaults.

        One that is suspended has no process, and takes nothing.
        """
        if run.suspended:
            return 0.0, 0.0, 0.0
        pool = self._pools.get(run.pool, {})
        return requests(str(pool.get("type") or ""), *self._variables(run))

    def image(self, run: FlowRun) -> str:
        """The container image it is started in, as `asks`; "" = its job variables name none."""
        named = [part.get("image") for part in self._variables(run)]
        return clean(next((n for n in reversed(named) if n and isinstance(n, str)), ""))

    def _variables(self, run: FlowRun) -> tuple[Mapping[str, Any], ...]:
        """Job variables of its work pool, its deployment, its own: a later one wins."""
        d, pool = self._deployments.get(run.deployment_id), self._pools.get(run.pool, {})
        properties = ((pool.get("base_job_template") or {}).get("variables") or {}).get("properties") or {}
        defaults = {k: p.get("default") for k, p in properties.items() if isinstance(p, Mapping)}
        return defaults, d.variables if d else {}, run.variables

    def traits(self, run: FlowRun) -> TaskTraits:
        """What decides how it behaves; Prefect tells the version of a flow only once it runs, until then the last."""
        dag = self.dag(run)
        variables: dict[str, Any] = {}
        for part in self._variables(run):
            variables |= {k: v for k, v in part.items() if v is not None}
        told: dict[str, Any] = {"job_variables": variables, "work_pool_name": run.pool, "work_queue_name": run.queue}
        if run.started != run.started and dag in self.shapes:
            told["flow_version"] = self.shapes[dag].version
        return prefect({**told, **run.told}, dag=dag, tenant=self.tenant, source=self._source)

    def priority(self, pool: str, queue: str) -> int:
        """Of a run of that work queue: Prefect counts from 1, which goes first, upwards; here the higher goes first.

        A run of a first queue is no more urgent than one of no queue, 0; the others come after.
        """
        return 1 - self._ranks.get((pool, queue), 1)

    def paused(self, pool: str, queue: str) -> bool:
        """Whether nobody takes runs of that work queue, or of its pool."""
        return bool(self._pools.get(pool, {}).get("is_paused")) or (pool, queue) in self._paused

    def _paused_names(self) -> list[str]:
        pools = [f"work pool {name}" for name, pool in sorted(self._pools.items()) if pool.get("is_paused")]
        return pools + [f"work queue {pool}/{queue}" for pool, queue in sorted(self._paused)]

    def cron(self, run: FlowRun) -> str:
        """Of its deployment, if that has one."""
        d = self._deployments.get(run.deployment_id)
        return schedule_of("", d, (), "", self._zone, None).cron if d is not None else ""

    def zone_of(self, run: FlowRun) -> str:
        """Of its deployment's schedule."""
        d = self._deployments.get(run.deployment_id)
        return schedule_of("", d, (), "", self._zone, None).zone if d is not None else self._zone

    def learn(self, run: FlowRun, shape: Shape) -> None:
        """A run of a DAG ended well, and looked like this."""
        dag = self.dag(run)
        if self.shapes.get(dag) != shape:
            self.shapes[dag] = shape
            self._unwritten[_PREFIX + dag] = shape.dump()

    def written(self) -> dict[str, str | None]:
        """What is to be kept in the notebook since this was last asked."""
        found, self._unwritten = self._unwritten, {}
        return found

    def words(self) -> str:
        """How much is declared, for people."""
        self._ask()
        active = sum(not d.paused for d in self._deployments.values())
        stamp = datetime.now(UTC)
        return (
            f"{len(self._deployments)} deployments, {active} of them with active schedules, "
            f"{len(self._pools)} work pools, at {stamp:%H:%M}Z"
        )
