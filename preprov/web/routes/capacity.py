"""/v1/capacity, /v1/plans, /v1/forecasts, /v1/why: what is there, what is meant, and the story behind it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query

from preprov.control.reacting import why_blocked
from preprov.control.why import Story, why_action, why_node, why_run
from preprov.model.errors import ConfigError
from preprov.model.plans import CapacityPlan
from preprov.model.pools import Pool
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources, sum_of
from preprov.planning.held import held_by_tenant
from preprov.web.answers import (
    AmountsPart,
    CapacityList,
    CapacityPart,
    ForecastPart,
    ForecastPoint,
    PlannedAction,
    PlannedTarget,
    PlanPart,
    WhyAlternative,
    WhyEvent,
    WhyForetold,
    WhyOutcome,
    WhyPart,
    WhyPlan,
)
from preprov.web.documents import Instant, Label
from preprov.web.problems import Problem, not_found
from preprov.web.security import Caller, Reader

router = APIRouter(prefix="/v1", tags=["capacity"])

SEEN_LATELY: Final = timedelta(hours=1)
PoolName = Annotated[Label, Path(description="Name of the pool.")]
Resource = Annotated[Literal["cpu", "memory", "gpu", "disk_io", "network"], Query()]


def _amounts(r: Resources) -> AmountsPart:
    return AmountsPart(**r.as_dict())


def counts(nodes: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Phase -> nodes, of all groups (group -> phase -> nodes)."""
    out: dict[str, int] = {}
    for phases in nodes.values():
        for phase, count in phases.items():
            out[phase] = out.get(phase, 0) + count
    return out


def _capacity(caller: Caller, pool: Pool) -> CapacityPart:
    """As the last pass saw the pool, with what is held at this moment."""
    ctx, now = caller.ctx, caller.ctx.clock.now()
    rows = ctx.ports.history.snapshots(pool.name, since=now - SEEN_LATELY, until=now)
    last = rows[-1] if rows else None
    live = ctx.ports.ledger.reservations(pool.name)
    held = held_by_tenant([r for r in live if r.state is ReservationState.COMMITTED], now)
    total = sum_of(held.values())
    allocatable, foreign = (last.allocatable, last.foreign) if last else (Resources(), Resources())
    return CapacityPart(
        pool=pool.name,
        mode=str(ctx.mode(pool, now)),
        seen_at=last.at if last else None,
        nodes=counts(last.nodes) if last else {},
        target=last.target if last else None,
        allocatable=_amounts(allocatable),
        held=_amounts(total),
        foreign=_amounts(foreign),
        free=_amounts(allocatable.minus_clamped(total + foreign)),
        held_by_you=_amounts(held.get(caller.token.tenant, Resources())),
        waiting=_amounts(last.waiting if last else Resources()),
        blocked=_blocked(caller, pool),
    )


def _blocked(caller: Caller, pool: Pool) -> str | None:
    if not caller.token.is_admin and caller.ctx.ports.intent.halted():
        return "halted"
    return why_blocked(caller.ctx, pool) or None


@router.get("/capacity", summary="What is there, of every pool you may see")
def capacity_of_all(caller: Reader) -> CapacityList:
    """Nodes by state, what is held, what is free: as the last pass of the controller saw it, at `seen_at`."""
    return CapacityList(at=caller.ctx.clock.now(), pools=[_capacity(caller, p) for p in caller.pools()])


@router.get("/capacity/{pool}", summary="What is there")
def capacity(pool: PoolName, caller: Reader) -> CapacityPart:
    """Of one pool."""
    return _capacity(caller, caller.pool(pool))


@router.get("/plans/{pool}", summary="What is meant to run when")
def plan(
    pool: PoolName,
    caller: Reader,
    ahead: Annotated[
        bool, Query(description="The last one that says what is to run later, too: past mere reactions.")
    ] = False,
) -> PlanPart:
    """The pool's last plan. The reasons are for administrators: they may tell of anybody's work."""
    found = caller.ctx.ports.plans.latest(caller.pool(pool).name, ahead=ahead)
    if found is None:
        raise not_found(f"there is no plan of pool {pool}")
    return _plan(found, with_reasons=caller.token.is_admin)


def _plan(p: CapacityPlan, *, with_reasons: bool) -> PlanPart:
    return PlanPart(
        plan_id=p.plan_id,
        pool=p.pool,
        mode=str(p.mode),
        issued_at=p.issued_at,
        valid_until=p.valid_until,
        cost_usd=p.cost_usd,
        node_hours=p.node_hours,
        actions=[
            PlannedAction(
                at=a.at,
                kind=str(a.kind),
                count=a.count,
                group=a.group,
                offering=a.offering,
                standby_state=str(a.standby_state),
                reason=a.reason if with_reasons else None,
            )
            for a in p.actions
        ],
        targets=[
            PlannedTarget(at=t.at, group=t.group, standby_state=str(t.standby_state), count=t.count) for t in p.targets
        ],
    )


@router.get("/forecasts/{pool}", summary="What work is expected to want")
def forecast(
    pool: PoolName,
    caller: Reader,
    resource: Resource = "cpu",
    at: Annotated[
        Instant | None, Query(description="The last one that had been issued by then; now if not given.")
    ] = None,
) -> ForecastPart:
    """The last forecast that was issued for the pool, of all tenants together."""
    found = caller.ctx.ports.forecasts.latest(caller.pool(pool).name, at)
    if found is None:
        raise not_found(f"there is no forecast of pool {pool}: preprov forecast run")
    forecast_id, curve = found
    table = curve.table(resource)
    return ForecastPart(
        forecast_id=forecast_id,
        pool=pool,
        resource=resource,
        issued_at=curve.issued_at,
        step_seconds=curve.step_seconds,
        quantiles=list(curve.quantiles),
        points=[
            ForecastPoint(ts=t, demand=[float(v) for v in row]) for t, row in zip(curve.times(), table, strict=True)
        ],
    )


@router.get("/why/{kind}/{name}", summary="Why it is so")
def why(
    kind: Literal["run", "node", "action"],
    name: Annotated[Label, Path(description="Id of the run, node or action.")],
    caller: Reader,
) -> WhyPart:
    """The story of a run of the tenant's own. Nodes and actions serve everybody: administrators may ask for them.

    They are also told what else was considered and what it would have cost, what had been foretold, and what came.
    """
    if kind == "run":
        run = caller.ctx.ports.work.run(name)
        if (
            run is None
            or (caller.sees is not None and run.tenant != caller.sees)
            or not caller.token.sees_pool(run.pool)
        ):
            raise not_found(f"there is no run {name}")
        story = why_run(caller.ctx, run.run_id)
    elif not caller.token.is_admin:
        raise Problem(403, f"the story of a {kind} tells of every tenant", kind="NoScope", hint="ask an administrator")
    else:
        try:
            story = why_node(caller.ctx, name) if kind == "node" else why_action(caller.ctx, name)
        except ConfigError as e:
            raise not_found(e.what) from None
    return _story(story, whole=caller.token.is_admin)


def _story(story: Story, *, whole: bool) -> WhyPart:
    """As it is answered. Plans and forecasts are made for everybody's work: the `whole` is for administrators."""
    return WhyPart(
        subject=story.subject,
        events=[WhyEvent(**e.as_dict()) for e in story.events],
        plans=[_considered(p) for p in story.plans] if whole else [],
        foretold=[WhyForetold(**f.as_dict()) for f in story.foretold] if whole else [],
        outcomes=[WhyOutcome(**o.as_dict(), words=o.words()) for o in story.outcomes] if whole else [],
    )


def _considered(p: CapacityPlan) -> WhyPlan:
    return WhyPlan(
        plan_id=p.plan_id,
        issued_at=p.issued_at,
        cost_usd=p.cost_usd,
        node_hours=p.node_hours,
        wait_core_hours=p.expected_wait_core_hours,
        alternatives=[WhyAlternative(**asdict(a)) for a in p.alternatives],
        notes=list(p.notes),
        fallback=p.fallback,
    )
