"""plan make|show|apply."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AtOption, Output, OutputOption, PoolOption, TzOption, YesOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from preprov.model.plans import CapacityPlan

plan_app = typer.Typer(help="What should run when, why, and at what cost.", no_args_is_help=True)
CheckOption = Annotated[bool, typer.Option("--check", help="Exit with 3 if the plan would change something now.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(plan_app, name="plan")


@plan_app.command("make")
def plan_make(
    pool: PoolOption,
    at: AtOption = None,
    check: CheckOption = False,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a plan for the pool's horizon; nothing is done. At a past instant the pool is taken as empty."""
    with common.opened("plan make", output) as app:
        from preprov.control.passes import make_plan_now
        from preprov.model.plans import ActionKind

        target = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, target.zone, app.ctx.clock.now()))
        plan, _ = make_plan_now(ctx, target)
        show_plan(plan, tz or target.zone, output, "plan make")
        if check and any(a.kind is not ActionKind.HOLD for a in plan.due(ctx.clock.now())):
            raise typer.Exit(3)


@plan_app.command("show")
def plan_show(
    plan_id: Annotated[str | None, typer.Argument(help="Id (or its beginning); the pool's last if not given.")] = None,
    pool: Annotated[str | None, typer.Option("--pool", "-p")] = None,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """A plan made earlier."""
    with common.opened("plan show", output) as app:
        plan = _find(
            app.ctx.ports.plans.get(plan_id) if plan_id else app.ctx.ports.plans.latest(pool or ""), plan_id, pool
        )
        show_plan(plan, tz or app.ctx.pool(plan.pool).zone, output, "plan show")


@plan_app.command("apply")
def plan_apply(plan_id: str, yes: YesOption = False, output: OutputOption = Output.TABLE) -> None:
    """Do what is due of a plan; refused if the pool has changed since it was made."""
    with common.opened("plan apply", output) as app:
        from preprov.control.apply import apply_stored

        plan = _find(app.ctx.ports.plans.get(plan_id), plan_id, None)
        due = plan.due(app.ctx.clock.now())
        common.confirm(f"Apply {len(due)} actions to pool {plan.pool}?", yes or not due)
        records = apply_stored(app.ctx, app.ctx.pool(plan.pool), plan)
        if output is Output.JSON:
            rows = [
                {**r.action.as_dict(), "result": r.result, "detail": r.detail, "nodes": list(r.node_ids)}
                for r in records
            ]
            common.print_json(common.envelope("plan apply", plan.pool, app.ctx.clock.now(), {"actions": rows}))
            return
        for r in records:
            typer.echo(f"{r.action.kind} {r.action.count} x {r.action.offering}: {r.result} {r.detail}".rstrip())
        if not records:
            typer.echo("nothing is due")


def _find(plan: "CapacityPlan | None", plan_id: str | None, pool: str | None) -> "CapacityPlan":
    if plan is None:
        from preprov.model.errors import PlanError

        raise PlanError(f"there is no plan {plan_id or f'of pool {pool}'}", hint="preprov plan make --pool NAME")
    return plan


def plan_body(plan: "CapacityPlan") -> dict[str, object]:
    """The fields a plan has in JSON."""
    return {
        "plan_id": plan.plan_id,
        "mode": str(plan.mode),
        "cost_usd": plan.cost_usd,
        "node_hours": plan.node_hours,
        "expected_wait_core_hours": plan.expected_wait_core_hours,
        "valid_until": plan.valid_until,
        "forecast_id": plan.forecast_id,
        "actions": [a.as_dict() for a in plan.actions],
        "targets": [
            {"at": t.at, "group": t.group, "standby_state": str(t.standby_state), "count": t.count}
            for t in plan.targets
        ],
        "alternatives": [
            {"name": a.name, "cost_usd": a.cost_usd, "wait_core_hours": a.wait_core_hours, "why_not": a.why_not}
            for a in plan.alternatives
        ],
        "notes": list(plan.notes),
        "fallback": plan.fallback,
        "basis": {"solver": "greedy", "solved": False, "because": plan.fallback, **plan.basis},
    }


def found_by(basis: "Mapping[str, Any]") -> str:
    """How a plan was found, in words."""
    words = f"found by {basis.get('solver', 'greedy')}"
    if basis.get("together"):
        words += f" together with {', '.join(basis['together'])}"
    if basis.get("gap") is not None:
        words += f", at most {basis['gap']:.2%} dearer than the best there is"
    words += f" ({basis.get('because', '')})"
    return words + (f"; held back by {', '.join(basis['binding'])}" if basis.get("binding") else "")


def show_plan(plan: "CapacityPlan", zone: str, output: Output, command: str) -> None:
    """Print a plan."""
    if output is Output.JSON:
        common.print_json(common.envelope(command, plan.pool, plan.issued_at, plan_body(plan)))
        return
    cost = "no price known" if plan.cost_usd is None else f"{plan.cost_usd:.2f} USD"
    typer.echo(f"plan {plan.plan_id} for pool {plan.pool} (mode {plan.mode}): {cost}, {plan.node_hours:.1f} node-hours")
    if plan.basis:
        typer.echo(found_by(plan.basis))
    rows = [
        (common.both_times(a.at, zone), a.kind, a.count, a.offering or a.group, a.standby_state, a.cost_usd, a.reason)
        for a in plan.actions
    ]
    common.print_table("", ("at", "what", "count", "of", "ends", "USD", "why"), rows)
    for note in plan.notes:
        common.say(f"note: {note}")
