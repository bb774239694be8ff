"""reservation list|create|commit|release."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from preprov.model.reservations import Reservation

reservation_app = typer.Typer(help="Claims on capacity: soft, committed, released.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(reservation_app, name="reservation")


def reservation_json(r: "Reservation") -> dict[str, object]:
    """A reservation as JSON."""
    return {
        "reservation_id": r.reservation_id,
        "pool": r.pool,
        "claimant": r.claimant,
        "state": str(r.state),
        "tenant": r.tenant,
        "priority": r.priority,
        "purpose": str(r.purpose),
        "gang": r.gang,
        "node_id": r.node_id,
        "expires_at": r.expires_at,
        "segments": [{"start": s.start, "end": s.end, **s.amount.as_dict()} for s in r.segments],
        "reason": r.reason,
    }


@reservation_app.command("list")
def reservation_list(
    pool: AnyPoolOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Released and expired ones too.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Reservations by start."""
    with common.opened("reservation list", output) as app:
        found = app.ctx.ports.ledger.reservations(pool, live=not all_)
        if output is Output.JSON:
            body = {"reservations": [reservation_json(r) for r in found]}
            common.print_json(common.envelope("reservation list", pool, app.ctx.clock.now(), body))
            return
        rows = [
            (
                r.reservation_id,
                r.pool,
                r.claimant,
                r.state,
                r.node_id,
                f"{r.start:%m-%d %H:%M}Z",
                f"{r.end:%m-%d %H:%M}Z",
            )
            for r in found
        ]
        columns = ("reservation", "pool", "claimant", "state", "node", "from", "to")
        common.print_table("", columns, rows, note="" if rows else "no reservations")


@reservation_app.command("create")
def reservation_create(
    pool: PoolOption,
    claimant: Annotated[str, typer.Option("--claimant", help="Who claims: any label.")],
    cpu: Annotated[float, typer.Option("--cpu", min=0)] = 0.0,
    memory: Annotated[float, typer.Option("--memory", min=0, help="GiB")] = 0.0,
    gpu: Annotated[float, typer.Option("--gpu", min=0)] = 0.0,
    start: Annotated[str | None, typer.Option("--start", help="+10m or an ISO time; now if not given.")] = None,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 2h.")] = "1h",
    expires: Annotated[str | None, typer.Option("--expires", help="Void after this unless committed.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Claim capacity softly; warm nodes are kept for it."""
    with common.opened("reservation create", output) as app:
        from preprov.model.plans import stable_id
        from preprov.model.reservations import Reservation, Segment
        from preprov.model.resources import Resources

        target, now = app.ctx.pool(pool), app.ctx.clock.now()
        begin = common.parse_time(start, target.zone, now) or now
        end = begin + common.parse_span(length)
        made = app.ctx.ports.ledger.reserve(
            Reservation(
                reservation_id=stable_id(pool, claimant, now.isoformat()),
                pool=target.name,
                claimant=claimant,
                segments=(Segment(begin, end, Resources(cpu=cpu, memory=memory, gpu=gpu)),),
                expires_at=common.parse_time(expires, target.zone, now) or end + timedelta(minutes=15),
                created_at=now,
            )
        )
        _show("reservation create", made, app.ctx.clock.now(), output)


@reservation_app.command("commit")
def reservation_commit(reservation_id: str, node_id: str, output: OutputOption = Output.TABLE) -> None:
    """Bind a soft reservation to a node."""
    with common.opened("reservation commit", output) as app:
        from preprov.control.observing import observe
        from preprov.model.errors import ReservationError

        ledger = app.ctx.ports.ledger
        found = next((r for r in ledger.reservations() if r.reservation_id == reservation_id), None)
        if found is None:
            raise ReservationError(f"there is no live reservation {reservation_id}", hint="preprov reservation list")
        pool = app.ctx.pool(found.pool)
        seen = observe(app.ctx, pool)
        node = next((n for n in seen.nodes if n.node_id == node_id), None)
        if node is None:
            raise ReservationError(f"pool {found.pool} has no node {node_id}", hint=f"preprov pool show {found.pool}")
        made = ledger.commit(reservation_id, node_id, pool.claimable(node.offering), app.ctx.clock.now())
        _show("reservation commit", made, app.ctx.clock.now(), output)


@reservation_app.command("release")
def reservation_release(
    reservation_id: str,
    reason: Annotated[str, typer.Option("--reason")] = "released by hand",
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a reservation back."""
    with common.opened("reservation release", output) as app:
        made = app.ctx.ports.ledger.release(reservation_id, reason)
        _show("reservation release", made, app.ctx.clock.now(), output)


def _show(command: str, r: "Reservation", now: object, output: Output) -> None:
    if output is Output.JSON:
        body = {"reservation": reservation_json(r)}
        common.print_json(common.envelope(command, r.pool, now, body))  # type: ignore[arg-type]
        return
    typer.echo(f"{r.reservation_id} of {r.claimant}: {r.state}" + (f" on {r.node_id}" if r.node_id else ""))
