"""pool list|show|leads|recall|served|reconcile|drain."""

from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.commands import leads, recall, served
from preprov.cli.commands.adopt import adopt_app
from preprov.cli.commands.trust import mode_of_pool, release_pool
from preprov.cli.common import Output, OutputOption, TzOption, YesOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from preprov.control.context import Context
    from preprov.model.nodes import Node, PoolObservation
    from preprov.model.pools import Pool

pool_app = typer.Typer(help="Pools and their nodes.", no_args_is_help=True)
pool_app.add_typer(adopt_app, name="adopt")
pool_app.command("release")(release_pool)
pool_app.command("mode")(mode_of_pool)
leads.attach(pool_app)
recall.attach(pool_app)
served.attach(pool_app)
CheckOption = Annotated[bool, typer.Option("--check", help="Only look: exit with 3 if something would be changed.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(pool_app, name="pool")


@pool_app.command("list")
def pool_list(output: OutputOption = Output.TABLE) -> None:
    """All pools with their mode and what exists."""
    with common.opened("pool list", output) as app:
        now = app.ctx.clock.now()
        rows: list[dict[str, object]] = []
        for pool in app.ctx.pools.values():
            seen = _observe(app.ctx, pool)
            rows.append(
                {
                    "pool": pool.name,
                    "mode": str(app.ctx.mode(pool, now)),
                    "zone": pool.zone,
                    "groups": [g.name for g in pool.groups],
                    "nodes": _counts(seen),
                    "complete": seen.complete,
                }
            )
        if output is Output.JSON:
            common.print_json(common.envelope("pool list", None, now, {"pools": rows}))
            return
        table = [
            (r["pool"], r["mode"], r["zone"], ", ".join(r["groups"]), _phases(r["nodes"]))  # type: ignore[arg-type]
            for r in rows
        ]
        common.print_table("", ("pool", "mode", "zone", "groups", "nodes"), table, note="" if table else "no pools")


def _observe(ctx: object, pool: object) -> "PoolObservation":
    from preprov.control.observing import observe

    return observe(ctx, pool)  # type: ignore[arg-type]


def _counts(seen: "PoolObservation") -> dict[str, int]:
    out: dict[str, int] = {}
    for n in seen.nodes:
        out[str(n.phase)] = out.get(str(n.phase), 0) + 1
    return out


def _phases(counts: dict[str, int]) -> str:
    return ", ".join(f"{v} {k}" for k, v in counts.items()) or "none"


def capabilities_json(ctx: "Context", pool: "Pool", group: str) -> dict[str, object]:
    """A group with its provider's capabilities, as JSON."""
    from dataclasses import asdict

    from preprov.model.offerings import Standby

    name = pool.group(group).provider
    able = asdict(ctx.provider(name).capabilities(pool, group))
    kept = able.pop("standby_states")
    return {"group": group, "provider": name, "standby_states": [str(s) for s in Standby if s in kept], **able}


def _able(ctx: "Context", pool: "Pool") -> list[tuple[str, ...]]:
    """A row per group: what it keeps, can and cannot."""
    rows: list[tuple[str, ...]] = []
    for group in pool.groups:
        able = capabilities_json(ctx, pool, group.name)
        by = {yes: ", ".join(k for k, v in able.items() if v is yes) for yes in (True, False)}
        kept = ", ".join(able["standby_states"])  # type: ignore[arg-type]
        rows.append((group.name, group.provider, kept, by[True], by[False]))
    return rows


def node_json(n: "Node", used: "Mapping[str, float] | None") -> dict[str, object]:
    """A node as JSON; `used`: what its machine uses, None = nobody says."""
    return {
        "node_id": n.node_id,
        "group": n.group,
        "offering": n.offering.key,
        "phase": str(n.phase),
        "created_at": n.created_at,
        "since": n.since,
        "ready_at": n.ready_at,
        "running": None if n.running is None else list(n.running),
        "used": None if used is None else dict(used),
        "preloaded": sorted(n.preloaded),
        "progress": n.progress,
        "stages": dict(n.stages),
        "reason": n.reason,
        "tags": dict(n.tags),
    }


def _machines(ctx: "Context", seen: "PoolObservation") -> "tuple[dict[str, dict[str, float]], list[str]]":
    """(Node id -> what its machine uses, where somebody samples it; what went wrong in looking at either)."""
    from preprov.control.node_use import amounts, in_use
    from preprov.model.errors import StoreError
    from preprov.model.time import epoch

    try:
        told = in_use(ctx.ports.samples, seen.nodes, epoch(ctx.clock.now()))
    except StoreError as error:
        return {}, [*seen.problems, error.what]
    return {node_id: amounts(usage) for node_id, usage in told.items()}, list(seen.problems)


def _used(n: "Node", used: "Mapping[str, float]") -> str:
    """Of all that its machine has."""
    of = {"cpu": (n.offering.capacity.cpu, "cores"), "memory": (n.offering.capacity.memory, "GiB")}
    return ", ".join(f"{used[k]:.3g} of {has:g} {unit}" for k, (has, unit) in of.items() if k in used) or "?"


@pool_app.command("show")
def pool_show(pool: str, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """The nodes of a pool, as they are now, and what each of its groups can do."""
    with common.opened("pool show", output) as app:
        target = app.ctx.pool(pool)
        seen = _observe(app.ctx, target)
        used, problems = _machines(app.ctx, seen)
        if output is Output.JSON:
            body = {
                "mode": str(app.ctx.mode(target, seen.at)),
                "halted": app.ctx.ports.intent.halted(),
                "complete": seen.complete,
                "problems": problems,
                "groups": [capabilities_json(app.ctx, target, g.name) for g in target.groups],
                "nodes": [node_json(n, used.get(n.node_id)) for n in seen.nodes],
            }
            common.print_json(common.envelope("pool show", pool, seen.at, body))
            return
        zone = tz or target.zone
        rows = [
            (
                n.node_id,
                n.group,
                n.phase,
                common.both_times(n.since, zone),
                "?" if n.running is None else len(n.running),
                *((_used(n, used.get(n.node_id, {})),) if used else ()),
                len(n.preloaded),
                n.reason,
            )
            for n in seen.nodes
        ]
        columns = ("node", "group", "phase", "since", "tasks", *(("in use",) if used else ()), "preloaded", "reason")
        common.print_table("", columns, rows, note="" if rows else "no nodes")
        common.print_table("", ("group", "provider", "keeps", "can", "cannot"), _able(app.ctx, target))
        for problem in problems:
            common.say(f"problem: {problem}")


@pool_app.command("reconcile")
def pool_reconcile(pool: str, check: CheckOption = False, output: OutputOption = Output.TABLE) -> None:
    """One pass over the pool now: observe, serve, forecast, plan, act."""
    with common.opened("pool reconcile", output) as app:
        from preprov.cli.commands.plan import show_plan
        from preprov.control.passes import make_plan_now, pool_pass
        from preprov.model.plans import ActionKind

        target = app.ctx.pool(pool)
        if check:
            plan, _ = make_plan_now(app.ctx, target)
            show_plan(plan, target.zone, output, "pool reconcile")
            if any(a.kind is not ActionKind.HOLD for a in plan.due(app.ctx.clock.now())):
                raise typer.Exit(3)
            return
        result = pool_pass(app.ctx, target)
        if output is Output.JSON:
            body = {
                "nodes": _counts(result.observation),
                "started": list(result.dispatched.started) if result.dispatched else [],
                "actions": [{**r.action.as_dict(), "result": r.result, "detail": r.detail} for r in result.records],
                "seconds": round(result.seconds, 3),
            }
            common.print_json(common.envelope("pool reconcile", pool, result.at, body))
            return
        for r in result.records:
            typer.echo(
                f"{r.action.kind} {r.action.count} x {r.action.offering}: {r.result} {r.detail} - {r.action.reason}"
            )
        if not result.records:
            typer.echo("nothing to do")


@pool_app.command("drain")
def pool_drain(
    pool: str,
    nodes: Annotated[list[str] | None, typer.Argument(help="Node ids; all of the pool if not given.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let the pool take work again.")] = False,
    yes: YesOption = False,
) -> None:
    """No new work on these nodes; running work ends by itself, then they go."""
    with common.opened("pool drain") as app:
        target = app.ctx.pool(pool)
        if undo:
            app.ctx.ports.intent.set_drain(target.name, ())
            typer.echo(f"pool {pool} takes work again")
            return
        chosen = tuple(nodes or ("*",))
        common.confirm(f"Drain {', '.join(chosen) if nodes else 'all nodes'} of pool {pool}?", yes)
        already = app.ctx.ports.intent.drains(target.name)
        app.ctx.ports.intent.set_drain(target.name, {*already, *chosen})
        typer.echo("draining: the next pass begins; `preprov pool show` follows it")
