"""task: what single tasks use over time, and what they should ask for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import MapOption, Output, OutputOption, PictureOption

if TYPE_CHECKING:
    from preprov.control.rightsizing import RightSizing, TaskShown

task_app = typer.Typer(help="What single tasks use over time, and what they should ask for.", no_args_is_help=True)

_WIDTH = 48
_ROWS = 16
_SHOWN = 30
_Pool = Annotated[str | None, typer.Option("--pool", "-p", help="Name of the pool; the only one if not given.")]


def attach(app: typer.Typer) -> None:
    """Hang the noun on the root."""
    app.add_typer(task_app, name="task")


@task_app.command("sizing")
def task_sizing(
    pool: _Pool = None,
    dag: Annotated[str | None, typer.Option("--dag", help="Only this DAG.")] = None,
    last: Annotated[str, typer.Option("--last", help="How far back: 30d, 12h.")] = "30d",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Instead of a pool's tasks: an execution trace (Nextflow, a table).")
    ] = None,
    node_cpu: Annotated[float, typer.Option("--node-cpu", min=0.001, help="Cores of a node, for --trace.")] = 16.0,
    node_memory: Annotated[float, typer.Option("--node-memory", min=0.001, help="GiB of a node, for --trace.")] = 64.0,
    failures: Annotated[
        float, typer.Option("--failures", min=0.0, max=1.0, help="Most of a task's runs that may have too little.")
    ] = 0.02,
    failure_price: Annotated[
        float | None,
        typer.Option(
            "--failure-price", min=0.0, help="Of a failed attempt; 1 = what was allocated to it. The pool's, else 2."
        ),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option("--patch", help="Print the requests for preprov, airflow, prefect, slurm or kubernetes instead."),
    ] = None,
    picture: PictureOption = None,
    map_: MapOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What tasks ask for, use and should ask for, by task, DAG and tenant; what that would free."""
    with common.opened("task sizing", output) as app:
        from preprov.control.rightsizing import of_pool, of_trace
        from preprov.model.errors import ConfigError
        from preprov.profiles.patches import TARGETS
        from preprov.profiles.patches import patch as patched

        if patch is not None and patch not in TARGETS:
            raise ConfigError(f"nothing is called {patch!r}", where="--patch", hint=", ".join(TARGETS))
        fmt = common.picture_format(picture) if picture is not None else "png"
        now = app.ctx.clock.now()
        if trace is not None:
            from preprov.profiles.requests import Room
            from preprov.sources.executions import read_executions

            read = read_executions(trace, common.columns(map_))
            name, rejects = None, len(read.rejects)
            report = of_trace(
                read.executions, Room(node_cpu, node_memory), dag=dag, failures=failures, failure_price=failure_price
            )
        else:
            target = app.ctx.pool(pool if pool is not None else _only(app.ctx.pools))
            name, rejects = target.name, 0
            since = now - common.parse_span(last)
            report = of_pool(app.ctx, target, since=since, dag=dag, failures=failures, failure_price=failure_price)
        if picture is not None:
            from preprov.figures import task_requests

            common.write_picture(picture, task_requests(report.as_dict(), fmt=fmt))
        if output is Output.JSON:
            body = {**report.as_dict(), "rejects": rejects, "patch": patched(report.needs, patch) if patch else ""}
            common.print_json(common.envelope("task sizing", name, now, body))
        elif patch is not None:
            typer.echo(patched(report.needs, patch), nl=False)
        else:
            _print_sizing(report, rejects)


@task_app.command("show")
def task_show(
    what: Annotated[str, typer.Argument(help="RUN/TASK, DAG/TASK, or a signature.")],
    pool: _Pool = None,
    limit: Annotated[
        float | None, typer.Option("--limit", min=0.0, help="GiB: how likely it runs out of memory with so much.")
    ] = None,
    picture: PictureOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Memory, CPU and whatever else was watched of a task over time, with how sure that is; of a run what it used."""
    with common.opened("task show", output) as app:
        from preprov.control.rightsizing import show_task

        fmt = common.picture_format(picture) if picture is not None else "png"
        target = app.ctx.pool(pool if pool is not None else _only(app.ctx.pools))
        shown = show_task(app.ctx, target, what)
        if picture is not None:
            from preprov.figures import task_curves

            title = f"{shown.dag}/{shown.task}"
            common.write_picture(picture, task_curves(shown.curves, shown.actual, title=title, fmt=fmt))
        if output is Output.JSON:
            common.print_json(common.envelope("task show", target.name, app.ctx.clock.now(), _shown(shown, limit)))
            return
        _print_shown(shown, limit)


def _only(pools: Any) -> str:
    """The only pool.

    Raises:
        ConfigError: there are several.
    """
    if len(pools) == 1:
        return str(next(iter(pools)))
    from preprov.model.errors import ConfigError

    raise ConfigError("which pool?", where="--pool", hint=", ".join(pools) or "preprov pool list")


def _print_sizing(report: "RightSizing", rejects: int) -> None:
    told = report.as_dict()
    columns = ("tenant", "DAG", "task", "runs", "asks", "uses p50", "p99", "should ask", "of all", "too small")
    rows = [_task_row(t) for t in told["tasks"][:_SHOWN]]
    common.print_table("", columns, rows)
    if len(told["tasks"]) > _SHOWN:
        typer.echo(f"{len(told['tasks']) - _SHOWN} more tasks (-o json has all)")
    for what, of in (("DAG", told["dags"]), ("tenant", told["tenants"])):
        if len(of) > 1:
            parts = [(p["name"], p["tasks"], p["runs"], *_cost(p), *_freed(p)) for p in of[:_SHOWN]]
            titles = (what, "tasks", "runs", "node hours asked", "USD", "of all", "freed", "USD freed")
            common.print_table(f"\nBy {what}", titles, parts)
    whole = told["all"]
    (asked, cost, of_all), (freed, usd) = _cost(whole), _freed(whole)
    part = "" if of_all == "100%" else f", {of_all} of what all tasks cost"
    typer.echo(
        f"\nAsked for {asked} hours of whole nodes{_money(cost)}{part}; {freed} of them would be free{_money(usd)}."
    )
    probes = told["probes"]
    if probes["runs"] or probes["skipped"]:
        usd = "" if probes["usd"] is None else f", {probes['usd']:.3g} USD"
        typer.echo(
            f"{probes['runs']} probe run(s) took {probes['node_seconds']:.0f} s of whole nodes{usd}; "
            f"{probes['skipped']} would not have paid"
        )
    if odd := sum(t["odd"] for t in told["tasks"]):
        typer.echo(f"{odd} odd run(s) are left out of what to ask for; preprov task show DAG/TASK tells them")
    if rejects:
        typer.echo(f"{rejects} row(s) rejected: no process, no runtime, or did not end well")


def _task_row(t: dict[str, Any]) -> tuple[object, ...]:
    def pair(cpu: float, memory: float) -> str:
        known = [f"{cpu:.3g} cpu"] * (cpu == cpu) + [f"{memory:.3g} GiB"] * (memory == memory)
        return ", ".join(known) or "?"

    should = pair(t["ask_cpu"], t["ask_memory"]) if t["ask_memory"] == t["ask_memory"] else "too few runs"
    return (
        *(t["tenant"], t["dag"], t["task"], t["runs"]),
        *(pair(t["asked_cpu"], t["asked_memory"]), pair(t["cpu_p50"], t["memory_p50"])),
        *(pair(t["cpu_p99"], t["memory_p99"]), should, f"{t['share_of_all']:.0%}", t["too_small"] or ""),
    )


def _cost(p: dict[str, Any]) -> tuple[str, str, str]:
    """Node hours that were asked for, in USD, and of those of all tasks."""
    return f"{p['node_hours_asked']:.3g}", _usd(p["asked_usd"]), f"{p['share_of_all']:.0%}"


def _freed(p: dict[str, Any]) -> tuple[str, str]:
    return f"{p['saved_share']:.0%}", _usd(p["saved_usd"])


def _usd(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _money(usd: str) -> str:
    return f", {usd} USD" if usd else ""


def _limits(shown: "TaskShown", limit: float | None) -> list[tuple[str, float, float]]:
    """(what of, GiB, probability that it is too little) of what it asks for and of a limit that was named."""
    named = [("request", shown.asked_gib)] * (shown.asked_gib > 0) + [("limit", limit or 0.0)] * (limit is not None)
    chances = [(of, gib, shown.out_of_memory(gib)) for of, gib in named]
    return [(of, gib, chance) for of, gib, chance in chances if chance is not None]


def _shown(shown: "TaskShown", limit: float | None) -> dict[str, Any]:
    from preprov.model.usage import unit

    actual = shown.actual
    return {
        "dag": shown.dag,
        "task": shown.task,
        "runs": shown.runs,
        "curves": [
            {
                "resource": name,
                "unit": unit(name),
                "levels": c.levels.tolist(),
                "at_s": c.at.tolist(),
                "values": c.values.tolist(),
                "peak": c.peak.tolist(),
                "runtime_s": c.runtime_s.tolist(),
                "phases": [{"start_s": p.start_s, "amount": p.amount} for p in c.phases],
            }
            for name, c in shown.curves.items()
        ],
        "actual": None
        if actual is None
        else {
            "claimant": shown.claimant,
            "duration_s": actual.duration_s,
            "at_s": actual.at.tolist(),
            "memory": actual.memory.tolist(),
            "cpu": actual.cpu.tolist(),
            "more": {name: values.tolist() for name, values in actual.more.items()},
        },
        "out_of_memory": [
            {"limit_gib": gib, "of": of, "probability": chance} for of, gib, chance in _limits(shown, limit)
        ],
        "odd": [
            {"claimant": claimant, "what": o.what, "unit": o.unit, "used": o.used, "usual": o.usual}
            for claimant, how in shown.odd.items()
            for o in how
        ],
        "since": shown.since,
        "level": shown.level,
        "of": shown.of,
        "machine": shown.machine,
        "factors": dict(shown.factors),
    }


def _print_shown(shown: "TaskShown", limit: float | None) -> None:
    from preprov.model.usage import unit

    typer.echo(f"{shown.dag}/{shown.task}: {shown.runs} watched run(s) before")
    if shown.level != "signature":
        typer.echo(f"too few of its own: borrowed of its {shown.level} {shown.of}".rstrip())
    for kind, factor in shown.factors.items():
        typer.echo(f"runs on {kind} are told as on {shown.machine}: they take {factor:.2g} times as long there")
    if shown.since:
        typer.echo(f"it has changed: what ran before {shown.since} is not learnt from any more")
    for claimant, how in shown.odd.items():
        which = "this run" if claimant == shown.claimant else claimant
        typer.echo(f"{which} is unlike those before, and not learnt from: {'; '.join(o.words() for o in how)}")
    for name, curve in shown.curves.items():
        of = unit(name)
        low, middle, high = (curve.values[:, curve.levels.tolist().index(q)] for q in (0.1, 0.5, 0.9))
        top = max(float(high.max()), 1e-9)
        typer.echo(f"\n{name}, {of} (█ half of the runs use as much, ▒ one in ten more, o this run)")
        for i in range(0, len(curve.at), max(len(curve.at) // _ROWS, 1)):
            at, bar = float(curve.at[i]), "█" * round(middle[i] / top * _WIDTH)
            bar = _with(bar + "▒" * (round(high[i] / top * _WIDTH) - len(bar)), shown, name, at, top)
            typer.echo(f"{at:8.0f} s  {bar:{_WIDTH + 1}} {low[i]:.3g} to {high[i]:.3g}")
        typer.echo("then " + "; ".join(f"from {p.start_s:.0f} s {p.amount:.3g} {of}" for p in curve.phases))
    for of, gib, chance in _limits(shown, limit):
        what = "what it asks for" if of == "request" else "--limit"
        typer.echo(f"with {gib:.3g} GiB ({what}) it runs out of memory with probability {chance:.2g}")
    if not shown.curves:
        typer.echo("too few runs before this one to say what was expected")


def _with(bar: str, shown: "TaskShown", resource: str, at: float, top: float) -> str:
    """The bar with what the run used at that time; no mark beyond its end."""
    actual = shown.actual
    if actual is None or at > actual.duration_s:
        return bar
    values = actual.used(resource)
    used = float(values[max(int(actual.at.searchsorted(at, side="right")) - 1, 0)])
    if used != used:
        return bar
    place = min(round(used / top * _WIDTH), _WIDTH)
    padded = bar.ljust(place + 1)
    return padded[:place] + "o" + padded[place + 1 :]
