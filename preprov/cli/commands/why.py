"""why node|run|action: the story behind a thing."""

from typing import TYPE_CHECKING

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption, TzOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.control.why import Story

why_app = typer.Typer(help="Ask every decision why.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(why_app, name="why")


@why_app.command("node")
def node(node_id: str, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """Why a node exists (or existed): decision, warming, tasks, end."""
    with common.opened("why node", output) as app:
        from preprov.control.why import why_node

        _tell(app, "why node", why_node(app.ctx, node_id), tz, output)


@why_app.command("run")
def run(run_id: str, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """What happened to a run, task by task."""
    with common.opened("why run", output) as app:
        from preprov.control.why import why_run

        _tell(app, "why run", why_run(app.ctx, run_id), tz, output)


@why_app.command("action")
def action(action_id: str, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """Who decided an action, on which figures, what else was considered, and what came of it."""
    with common.opened("why action", output) as app:
        from preprov.control.why import why_action

        _tell(app, "why action", why_action(app.ctx, action_id), tz, output)


def _tell(app: "App", command: str, story: "Story", tz: str | None, output: Output) -> None:
    from preprov.cli.commands.order import run_json
    from preprov.cli.commands.plan import plan_body

    pool = story.plans[0].pool if story.plans else None
    if output is Output.JSON:
        body = {
            "subject": story.subject,
            "events": [e.as_dict() for e in story.events],
            "plans": [plan_body(p) for p in story.plans],
            "foretold": [f.as_dict() for f in story.foretold],
            "outcomes": [o.as_dict() for o in story.outcomes],
            "ahead": run_json(0, story.ahead) if story.ahead else None,
        }
        common.print_json(common.envelope(command, pool, app.ctx.clock.now(), body))
        return
    known = app.ctx.pools.get(pool or "")
    zone = tz or (known.zone if known else app.config.controller.zone)
    typer.echo(story.subject)
    for e in story.events:
        typer.echo(f"  {common.both_times(e.at, zone)}  {e.what}" + (f"  [{e.who}]" if e.who else ""))
        if e.why:
            typer.echo(f"      because: {e.why}")
    _tell_more(story, zone)


def _usd(amount: float) -> str:
    """What is done between plans costs fractions of a cent."""
    return f"{amount:.2f} USD" if amount == 0 or abs(amount) >= 1 else f"{amount:.4f} USD"


def _tell_more(story: "Story", zone: str) -> None:
    """Forecast, alternatives, and what came of it."""
    for f in story.foretold:
        hour = f"{common.both_times(f.since, zone)} and the hour after"
        cores = ", ".join(f"{q} {v:.4g}" for q, v in f.cores.items()) or "no forecast had been issued"
        parts = ", ".join(f"{name} {share:.0%}" for name, share in f.parts.items())
        came = "nobody looked" if f.came is None else f"{f.came:.4g} came"
        typer.echo(f"  foretold for {hour}, cores: {cores}{f' ({parts})' if parts else ''}; {came}")
    for plan in story.plans[:3]:
        for a in plan.alternatives:
            cost = "no price" if a.cost_usd is None else _usd(a.cost_usd)
            waits = f"{a.wait_core_hours:.2f} core-h waiting"
            typer.echo(f"  plan {plan.plan_id} instead of {a.name}: {cost}, {waits}; {a.why_not}")
    for o in story.outcomes:
        typer.echo(f"  came of it: node {o.node_id} {o.words()}")
    if story.ahead is not None:
        ends = [common.both_times(t, zone) or "later" for t in story.ahead.forecast.finish]
        lands = story.ahead.forecast.meets
        chance = "" if lands is None else f"; lands in time with {lands:.0%}"
        typer.echo(f"  should end at {ends[1]}, by {ends[2]} at the latest (95 %){chance}")
