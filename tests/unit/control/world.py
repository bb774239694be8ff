"""A whole preprov in memory: virtual clock, simulated cloud, in-memory store, the real control code."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from preprov.control.context import Context
from preprov.control.passes import PassResult, pool_pass
from preprov.control.submitting import submit
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DagRun, DagSpec, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from preprov.sim.ports import memory_ports
from preprov.sim.scheduler import SimScheduler

START = datetime(2025, 3, 3, 1, 0, tzinfo=UTC)


def make_group(node: Offering) -> Group:
    """Up to twenty of them, each up in a minute or so."""
    return Group(
        "g",
        "sim",
        (node,),
        standby_states=frozenset({Standby.RUNNING}),
        max_nodes=20,
        lead={Standby.COLD: LeadTime(60, 90)},
    )


def make_pool(**changes: object) -> Pool:
    group = make_group(Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2))
    base: dict[str, object] = {
        "name": "p",
        "groups": (group,),
        "mode": Mode.FULL,
        "step_seconds": 30,
        "horizon_s": 3600,
        "guards": Guards(max_nodes=20),
        "node_ttl_s": 120.0,
    }
    return Pool(**{**base, **changes})  # type: ignore[arg-type]


@dataclass
class World:
    ctx: Context
    pool: Pool
    clock: VirtualClock
    cloud: SimCloud
    scheduler: SimScheduler

    def submit(self, *dags: DagSpec) -> tuple[DagRun, ...]:
        return submit(self.ctx, tuple(d.in_pool(self.pool.name) for d in dags))

    def run_for(
        self,
        seconds: float,
        *,
        every: float = 10,
        plan_every: float = 30,
        react: bool = True,
        each: Callable[[PassResult], None] | None = None,
    ) -> None:
        """Passes every few seconds, planning less often, as the long-lived loop does."""
        until = self.clock.now() + timedelta(seconds=seconds)
        planned = None
        while self.clock.now() < until:
            now = self.clock.now()
            plan = planned is None or (now - planned).total_seconds() >= plan_every
            planned = now if plan else planned
            result = pool_pass(self.ctx, self.pool, plan=plan, react=react)
            if each is not None:
                each(result)
            self.clock.sleep(every)

    def nodes(self) -> int:
        return len(self.cloud.observe(self.pool).nodes)


def task(task_id: str, *parents: str, seconds: float = 60, cpu: float = 1, **more: object) -> TaskSpec:
    return TaskSpec(
        task_id,
        command=("true",),
        parents=parents,
        request=Resources(cpu=cpu, memory=cpu),
        runtime_hint_s=seconds,
        **more,  # type: ignore[arg-type]
    )


def dag(dag_id: str, *tasks: TaskSpec, due_in: float | None = None, **more: object) -> DagSpec:
    due = START + timedelta(seconds=due_in) if due_in is not None else None
    return DagSpec(dag_id, tasks, due=due, **more)  # type: ignore[arg-type]


def make_world(pool: Pool | None = None, **cloud: object) -> World:
    pool = pool or make_pool()
    clock = VirtualClock(START)
    sim = SimCloud(clock, seed=1, **cloud)  # type: ignore[arg-type]
    scheduler = SimScheduler(clock, sim)
    ctx = Context(
        ports=memory_ports(),
        providers={"sim": sim},
        schedulers={"sim": scheduler},
        prices=TablePriceBook.from_pools([pool]),
        clock=clock,
        pools={pool.name: pool},
        actor="test",
        n_samples=50,
    )
    return World(ctx, pool, clock, sim, scheduler)
