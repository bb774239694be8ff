"""queue order: who should go first where capacity binds, when each run will start and end, whether it lands in time."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AtOption, Output, OutputOption, PoolOption, TzOption

if TYPE_CHECKING:
    from datetime import datetime

    from preprov.control.ahead import Placed, Proposal

NodesOption = Annotated[int | None, typer.Option("--nodes", min=0, help="As if there were no more nodes than these.")]


def attach(queue_app: typer.Typer) -> None:
    """Hang the command on `queue`."""
    queue_app.command("order")(queue_order)


def queue_order(
    pool: PoolOption,
    at: AtOption = None,
    nodes: NodesOption = None,
    tz: TzOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The order proposed for the runs ahead, under the capacity that the plan will have; start, end, chance to land."""
    with common.opened("queue order", output) as app, common.progress("order"):
        from preprov.control.passes import order_now
        from preprov.model.errors import PlanError

        target = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, target.zone, app.ctx.clock.now()))
        found = order_now(ctx, target, most=nodes)
        if found is None:
            raise PlanError("there are too many runs to rank", where=pool, hint="tasks go by slack and path instead")
        if output is Output.JSON:
            common.print_json(common.envelope("queue order", pool, ctx.clock.now(), document(found)))
            return
        _print(found, tz or target.zone)


def document(found: "Proposal") -> dict[str, Any]:
    """As JSON."""
    from preprov.model.time import from_epoch

    c = found.capacity
    begins = c.now.timestamp()
    return {
        "binds": list(found.binds),
        "step_seconds": c.step_s,
        "capacity": [
            {"at": from_epoch(begins + i * c.step_s), "cores": float(n)} for i, n in enumerate(c.cores.tolist())
        ],
        "runs": [run_json(i, p) for i, p in enumerate(found.order)],
        "proposed": _sums(found.proposed),
        "first_come": _sums(found.first_come),
    }


def _sums(score: tuple[float, float, float]) -> dict[str, float]:
    return {"missed": score[0], "late_usd": score[1], "mean_end_s": score[2]}


def run_json(rank: int, p: "Placed") -> dict[str, Any]:
    """A run in its place as JSON."""
    coming, run, forecast = p.ahead.coming, p.ahead.run, p.forecast
    return {
        "rank": rank,
        "run_id": coming.run_id,
        "dag_id": coming.dag_id,
        "tenant": coming.tenant,
        "expected": coming.expected,
        "probability": coming.probability,
        "priority": coming.priority,
        "ready_at": coming.ready_at,
        "land_by": run.land_by,
        "late_usd_per_minute": run.late_usd_per_minute,
        "start": _quantiles(forecast.start),
        "end": _quantiles(forecast.finish),
        "lands": forecast.meets,
        "late_usd": forecast.late_usd,
        "cores": coming.width,
        "core_hours": float(coming.work_s.mean()) / 3600,
    }


def _quantiles(instants: "tuple[datetime | None, ...]") -> "dict[str, datetime | None]":
    return dict(zip(("p5", "p50", "p95"), instants, strict=True))


def _print(found: "Proposal", zone: str) -> None:
    if found.binds:
        typer.echo(f"held back by {', '.join(found.binds)}")
    rows = []
    for p in found.order[:50]:
        r = run_json(0, p)
        lands = "" if r["lands"] is None else f"{r['lands']:.0%}"
        rows.append(
            (
                *(r["run_id"], r["priority"], f"{r['cores']:.4g}", f"{r['core_hours']:.3g}"),
                *(
                    common.both_times(r["start"]["p50"], zone) or "later",
                    common.both_times(r["end"]["p50"], zone) or "later",
                ),
                *(common.both_times(r["end"]["p95"], zone) or "later", common.both_times(r["land_by"], zone), lands),
            )
        )
    columns = ("run", "priority", "cores", "core-h", "starts", "ends", "ends p95", "land by", "lands")
    more = len(found.order) - len(rows)
    common.print_table("in this order", columns, rows, note=f"… and {more} more" if more > 0 else "")
    for name, (missed, late_usd, end_s) in (("in this order", found.proposed), ("first come", found.first_come)):
        typer.echo(f"{name}: {missed:.2f} deadlines missed, {late_usd:.2f} USD late, a run ends after {end_s:.0f} s")
