"""What the tasks of a pool, or of a trace, ask for and should; and what one task is expected to use over time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.control.context import Context
from preprov.control.instances import Instance
from preprov.control.machines import as_on, largest, machines_of
from preprov.control.measuring import executions, usage_runs
from preprov.control.teaching_curves import vintages_of
from preprov.model.errors import ForecastError
from preprov.model.executions import Executions
from preprov.model.plans import ActionKind
from preprov.model.pools import FAILURE_PRICE, Pool
from preprov.model.signature import is_under, levels, names_of
from preprov.model.time import from_epoch
from preprov.model.usage import ResourceCurve, UsageRun
from preprov.profiles.aligned import features
from preprov.profiles.borrowed import widened
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.oddities import Oddity, SortedOut, oddities, sort_out
from preprov.profiles.requests import FAILURES, FEWEST, Need, Part, Room, needs, node_hours_asked, parts, whole
from preprov.profiles.waste import Price

_STEPS: Final = 4
_AS_LONG_AS_KEPT: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Probes:
    """Probe runs, and how many were not made because they would not have paid. usd: None = no price known."""

    runs: int = 0
    skipped: int = 0
    node_seconds: float = 0.0
    usd: float | None = None


@dataclass(frozen=True)
class RightSizing:
    """A report.

    Attributes:
        needs: every task, the one that would free the most first. room: of the node that shares are of.
        usd_per_hour: of that node; None = no price known.
        asked_in_all: node hours that all tasks of the pool, or the trace, asked for, left out ones too.
        failure_price: by which memory is asked for.
        probes: what probe runs came to.
    """

    needs: Sequence[Need]
    room: Room
    usd_per_hour: float | None
    asked_in_all: float
    failure_price: float
    probes: Probes = Probes()

    def as_dict(self) -> dict[str, Any]:
        """tasks, dags, tenants, all, probes: amounts in cores and GiB, hours of a whole node, USD."""
        return {
            "node": {**asdict(self.room), "usd_per_hour": self.usd_per_hour},
            "failure_price": self.failure_price,
            "tasks": [self._task(n) for n in self.needs],
            "dags": [self._part(p) for p in parts(self.needs, "dag")],
            "tenants": [self._part(p) for p in parts(self.needs, "tenant")],
            "all": self._part(whole(self.needs)),
            "probes": asdict(self.probes),
        }

    def _task(self, n: Need) -> dict[str, Any]:
        told = asdict(n)
        for name in ("cpu", "memory"):
            told[f"{name}_p50"], told[f"{name}_p99"] = told.pop(name)
        return told | {"share_of_all": self._share(n.node_hours_asked)}

    def _part(self, p: Part) -> dict[str, Any]:
        return asdict(p) | {
            "share_of_all": self._share(p.node_hours_asked),
            "asked_usd": self._usd(p.node_hours_asked),
            "saved_share": p.saved,
            "saved_usd": self._usd(p.node_hours_asked - p.node_hours_needed),
        }

    def _share(self, node_hours: float) -> float:
        return node_hours / max(self.asked_in_all, 1e-12)

    def _usd(self, node_hours: float) -> float | None:
        return None if self.usd_per_hour is None else node_hours * self.usd_per_hour


def of_pool(
    ctx: Context,
    pool: Pool,
    *,
    since: datetime,
    dag: str | None = None,
    failures: float = FAILURES,
    failure_price: float | None = None,
) -> RightSizing:
    """Of the tasks that were served here.

    Args:
        ctx: the context. pool: whose tasks. since: submitted then or later. dag: only this one.
        failures: the largest share of a task's runs that may have too little memory.
        failure_price: what a failed attempt counts, 1 being what was allocated to it; None = as the pool says.

    Raises:
        ForecastError: none of them has ended well.
    """
    offering = largest(pool)
    room = Room(offering.allocatable.cpu, offering.allocatable.memory)
    every = executions(ctx, pool, since=since, until=ctx.clock.now())
    ran = _of_dag(every, dag)
    if not len(ran):
        what = f"no task of pool {pool.name}" if dag is None else f"no task of DAG {dag}"
        raise ForecastError(f"{what} has ended well since {since:%Y-%m-%dT%H:%MZ}", hint="--last 90d, or --trace FILE")
    usd = ctx.prices.usd_per_hour(offering, ctx.clock.now())
    price = Price(failure=pool.failure_price if failure_price is None else failure_price, cap=room.memory)
    found = needs(ran, room, price, failures=failures, seed=ctx.seed)
    return RightSizing(found, room, usd, node_hours_asked(every, room), price.failure, probes_of(ctx, pool, since))


def probes_of(ctx: Context, pool: Pool, since: datetime) -> Probes:
    """What probe runs came to since then."""
    rows = [r for r in ctx.ports.audit.records(pool.name, since=since) if r.action.kind is ActionKind.PROBE]
    done = [r.action.numbers for r in rows if r.result == "done"]
    usd = [n["usd"] for n in done if "usd" in n]
    return Probes(
        len(done),
        sum(r.result == "skipped" for r in rows),
        sum(n["node_seconds"] for n in done),
        sum(usd) if usd else None,
    )


def of_trace(
    ran: Executions,
    room: Room,
    *,
    dag: str | None = None,
    failures: float = FAILURES,
    failure_price: float | None = None,
) -> RightSizing:
    """Of tasks that ran elsewhere.

    Raises:
        ForecastError: there are none of that DAG.
    """
    kept = _of_dag(ran, dag)
    if not len(kept):
        told = ", ".join(name for name, _ in ran.workflows())
        raise ForecastError(f"the trace holds no workflow {dag}", where="--dag", hint=told)
    price = Price(failure=FAILURE_PRICE if failure_price is None else failure_price, cap=room.memory)
    found = needs(kept, room, price, failures=failures)
    return RightSizing(found, room, None, node_hours_asked(ran, room), price.failure)


def _of_dag(ran: Executions, dag: str | None) -> Executions:
    return ran if dag is None else ran.where(ran.column("workflow") == dag)


@dataclass(frozen=True)
class TaskShown:
    """What one task uses over time.

    Attributes:
        dag, task: its names. runs: that it rests on. curves: by resource, of those that were observed.
        actual: the run that was asked about, None if it was a task. claimant: its name.
        odd: by claimant, how runs before, and this one, are unlike those before them; they are not learnt from.
        since: the first run of what is usual now; "" = it has always been.
        asked_gib: memory that the run, or the last one, asked for; NaN = not known.
        level: of whose runs it rests on: of its signature, or borrowed of its task, DAG, tenant or of all the pool.
        of: the path of that level.
        machine: kind of machine that it is foretold for: the run's own, else the pool's largest.
        factors: of kinds that runs before were on, by what their times were multiplied.
    """

    dag: str
    task: str
    runs: int
    curves: dict[str, ResourceCurve]
    actual: UsageRun | None = None
    claimant: str = ""
    odd: Mapping[str, tuple[Oddity, ...]] = field(default_factory=dict)
    since: str = ""
    asked_gib: float = math.nan
    level: str = "signature"
    of: str = ""
    machine: str = ""
    factors: Mapping[str, float] = field(default_factory=dict)

    def out_of_memory(self, limit_gib: float) -> float | None:
        """Probability that it needs more than that; None where nothing is expected of its memory."""
        curve = self.curves.get("memory")
        return None if curve is None else curve.above(limit_gib)


def show_task(ctx: Context, pool: Pool, what: str) -> TaskShown:
    """What a task is expected to use, and what a run of it used; such a run is foretold by what had ended before it.

    Args:
        ctx: the context. pool: where it is served.
        what: RUN/TASK, DAG/TASK, or a signature (tenant/DAG/TASK/digest).

    Raises:
        ForecastError: there is no such task, or too few of its runs were watched.
    """
    names = names_of(what)
    if len(names) not in (2, 3, 4):
        raise ForecastError(f"{what!r} names no task", hint="RUN/TASK, DAG/TASK or TENANT/DAG/TASK")
    now = ctx.clock.now()
    run = _run(ctx, pool, names[0], now) if len(names) == 2 and names[0] else None
    dag, task = (run.dag_id, names[1]) if run is not None else names[-2:] if len(names) == 2 else names[1:3]
    back = now - _AS_LONG_AS_KEPT
    if len(names) == 2:
        every = usage_runs(ctx, pool, dag=dag, task=task, since=back, until=now)
    else:
        every = usage_runs(ctx, pool, under=what, since=back, until=now)
    mine = [(i, u) for i, u in every if run is not None and i.run_id == run.run_id]
    before = [(i, u) for i, u in every if run is None or i.ended_at <= run.submitted_at]
    newest = (*mine, *reversed(before))[:1]
    signature = what if len(names) == 4 else newest[0][0].signature if newest else what if len(names) == 3 else ""
    until = now if run is None else run.submitted_at
    level, found = _nearest(ctx, pool, signature, before, back, until)
    if len(found) < FEWEST and not mine:
        raise ForecastError(
            f"{len(before)} run(s) of {dag}/{task} were watched in pool {pool.name}; {FEWEST} are needed",
            where=what,
            hint="preprov run list, preprov task sizing",
        )
    kind = (mine[0][1].machine if mine else "") or largest(pool).instance_type
    machines, ran_on = machines_of(ctx, pool, until), {u.machine for _, u in found} - {"", kind}
    there = as_on(ctx, pool, [u for _, u in found], kind, until)
    found = [(i, u) for (i, _), u in zip(found, there, strict=True)]
    sizer = CurveSizer(_STEPS, largest(pool).allocatable.memory, ctx.seed, vintages_of(ctx, pool))
    return replace(
        _shown(dag, task, found, mine, sizer, own=level == signature),
        level=_named(level, signature),
        of=level,
        machine=kind,
        factors={of: machines.factor(of, kind) for of in sorted(ran_on)},
    )


def _nearest(
    ctx: Context,
    pool: Pool,
    signature: str,
    before: Sequence[tuple[Instance, UsageRun]],
    since: datetime,
    until: datetime,
) -> tuple[str, Sequence[tuple[Instance, UsageRun]]]:
    """The finest level of the signature of which enough runs were watched, and these; itself if there is none.

    Args:
        before: runs of the task, which are not asked for again.
    """
    own: Sequence[tuple[Instance, UsageRun]] = ()
    for n, level in enumerate(levels(signature) if signature else ()):
        found = [(i, u) for i, u in before if is_under(i.signature, level)]
        if n and len(found) < FEWEST:
            found = usage_runs(ctx, pool, under=level, since=since, until=until)
        if len(found) >= FEWEST:
            return level, found
        own = own or found
    return signature, own


def _named(level: str, signature: str) -> str:
    return "signature" if level == signature else ("pool", "tenant", "DAG", "task")[len(names_of(level))]


@dataclass(frozen=True, slots=True)
class _Run:
    run_id: str
    dag_id: str
    submitted_at: datetime


def _run(ctx: Context, pool: Pool, run_id: str, now: datetime) -> _Run | None:
    """One that is served here, or was read; None if there is none of that name."""
    here = ctx.ports.work.run(run_id)
    if here is not None:
        return _Run(run_id, here.dag_id, here.submitted_at)
    runs = ctx.ports.work.work(pool.name, since=now - _AS_LONG_AS_KEPT, until=now).runs
    found = runs[runs["run_id"] == run_id].to_dict("records")
    return _Run(run_id, found[0]["dag_id"], from_epoch(found[0]["submit"])) if found else None


def _shown(
    dag: str,
    task: str,
    before: Sequence[tuple[Instance, UsageRun]],
    mine: Sequence[tuple[Instance, UsageRun]],
    sizer: CurveSizer,
    *,
    own: bool,
) -> TaskShown:
    """`own`: the runs before are of its own signature; of kin none is odd, and it may come as any of them did."""
    found = sort_out([u for _, u in before]) if own else SortedOut(tuple(range(len(before))), {}, 0)
    usual = [before[i][1] for i in found.kept]
    odd = {before[i][0].claimant: how for i, how in found.odd.items()}
    for instance, run in mine if own else ():
        if how := oddities(run, usual):
            odd[instance.claimant] = how
    for run in usual:
        sizer.learn(run)
    asked = mine[0][1] if mine else before[-1][1]
    curves = {}
    for resource in sizer.resources if len(usual) >= FEWEST else ():
        curve = sizer.curve(features(asked), resource)
        curves[resource] = curve if own else widened(curve, usual)
    return TaskShown(
        dag,
        task,
        len(usual),
        curves,
        mine[0][1] if mine else None,
        mine[0][0].claimant if mine else "",
        odd,
        before[found.since][0].claimant if found.since else "",
        asked.request_gib,
    )
