"""pool adopt POOL, pool release, pool mode: how far preprov may go on a pool, and everything back as it was."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from preprov.cli import common
from preprov.cli.commands.recall import recalled_json, show_recalled
from preprov.cli.common import Output, OutputOption, YesOption
from preprov.model.pools import Mode

if TYPE_CHECKING:
    from preprov.control.adopting import GivenBack
    from preprov.model.adoption import Adoption

_ON_RECORD = timedelta(days=42)
"""So far back clouds keep their records."""
ForOption = Annotated[str | None, typer.Option("--for", help="Only so long: 12h, 3d; then as configured again.")]


class PoolOrSource(TyperGroup):
    """`pool adopt NAME` means the pool of that name; `pool adopt terraform SOURCE` reads a declaration."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant, and what is left for it."""
        if args and args[0] not in self.commands:
            args = ["pool", *args]
        return super().resolve_command(ctx, args)


def adopt_pool(
    pool: Annotated[str, typer.Argument(help="Name of the pool.")],
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Another writer, as it is named here, that is no concern.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Record every setting of a pool's groups that preprov may touch, so that they can be given back.

    Writes to no cloud. What was recorded is kept until `pool release`; adopting again shows it. Lead times that the
    vendor has on record are learnt from, as `pool recall` does.
    """
    with common.opened("pool adopt", output) as app:
        from preprov.control.adopting import adopt
        from preprov.control.backfilling import recall

        target = app.ctx.pool(pool)
        held = adopt(app.ctx, target, ignore=tuple(ignore or ()))
        recalled = recall(app.ctx, target, app.ctx.clock.now() - _ON_RECORD)
        if output is Output.JSON:
            body = {"groups": [_adopted(a) for a in held], "recalled": [recalled_json(r) for r in recalled]}
            common.print_json(common.envelope("pool adopt", pool, app.ctx.clock.now(), body))
            return
        if not held:
            typer.echo(f"pool {pool}: its groups have no settings of a vendor, there is nothing to record")
        for a in held:
            typer.echo(f"group {a.group}, as it was found at {common.both_times(a.at, target.zone)}:")
            for name, value in a.baseline.items():
                typer.echo(f"  {name} = {value}")
            for other in a.others:
                note = "ignored, as asked" if other in a.ignored else "also writes its counts: only floors, or nothing"
                typer.echo(f"  {other}: {note}")
        show_recalled(tuple(r for r in recalled if r.found or r.error or r.left_out), target.zone)


def _adopted(a: "Adoption") -> dict[str, Any]:
    return {
        "group": a.group,
        "found_at": a.at,
        "actor": a.actor,
        "settings": dict(a.baseline),
        "others": list(a.others),
        "ignored": list(a.ignored),
    }


def release_pool(
    pool: Annotated[str, typer.Argument(help="Name of the pool.")],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a pool's groups back exactly as they were adopted, and observe only from then on.

    Idle nodes beyond what was there are ended by name; nodes that work stay, and their group stays adopted: exit code
    3, run it again when they are done.
    """
    with common.opened("pool release", output) as app:
        from preprov.control.adopting import release

        target = app.ctx.pool(pool)
        common.confirm(f"Put every setting of pool {pool} back, and end idle nodes beyond it?", yes)
        back = release(app.ctx, target)
        if output is Output.JSON:
            body = {"groups": [given_back_json(b) for b in back]}
            common.print_json(common.envelope("pool release", pool, app.ctx.clock.now(), body))
        else:
            show_given_back([(pool, b) for b in back])
        if not all(b.whole for b in back):
            raise typer.Exit(3)


def given_back_json(b: "GivenBack") -> dict[str, Any]:
    """One group as JSON."""
    differs = [{"setting": k, "found": was, "now": now} for k, (was, now) in b.differs.items()]
    return {"group": b.group, "whole": b.whole, "said": list(b.said), "differs": differs, "error": b.error}


def show_given_back(back: "list[tuple[str, GivenBack]]") -> None:
    """For people."""
    if not back:
        typer.echo("nothing was adopted, nothing is given back")
    for pool, b in back:
        typer.echo(f"{pool}/{b.group}: {'as it was found' if b.whole else b.error or 'not yet as it was found'}")
        for line in b.said:
            typer.echo(f"  {line}")
        for name, (was, now) in b.differs.items():
            typer.echo(f"  {name} was {was}, is still {now}")


def mode_of_pool(
    pool: Annotated[str, typer.Argument(help="Name of the pool.")],
    mode: Annotated[Mode | None, typer.Argument(help="Mode to ask for; only shown if left out.")] = None,
    span: ForOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """How far preprov may go on a pool, and what it has still to show before it may go further.

    Asking for more than the gate allows is kept: it holds as soon as the gate is open.
    """
    with common.opened("pool mode", output) as app:
        from preprov.control.gating import shown
        from preprov.control.trust import trust

        target, now = app.ctx.pool(pool), app.ctx.clock.now()
        if mode is not None:
            until = now + common.parse_span(span) if span else None
            app.ctx.ports.intent.set_mode(target.name, mode, until, actor=app.ctx.actor, at=now)
        found, gate = trust(app.ctx, target), shown(app.ctx, target)
        body: dict[str, Any] = {
            "asked": str(found.wanted),
            "in_force": str(found.mode),
            "why_less": list(found.why),
            "halted": app.ctx.ports.intent.halted(),
            "gate": None
            if target.gate is None
            else {
                "nights": gate.nights,
                "coverage": gate.coverage,
                "guard_hits": list(gate.hits),
                "missing_for_floor": list(gate.missing[Mode.FLOOR]),
                "missing_for_full": list(gate.missing[Mode.FULL]),
            },
        }
        if output is Output.JSON:
            common.print_json(common.envelope("pool mode", pool, now, body))
            return
        typer.echo(f"pool {pool}: {found.mode}" + (f", {found.wanted} was asked for" if found.why else ""))
        for line in found.why:
            typer.echo(f"  {line}")
        for step in (Mode.FLOOR, Mode.FULL):
            lacks = "; ".join(gate.missing[step]) or "nothing"
            typer.echo(f"  missing for {step}: {lacks}")
