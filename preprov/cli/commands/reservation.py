"""reservation list|units|create|commit|resize|release."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from preprov.contracts import Unit
    from preprov.model.reservations import Purpose, Reservation

AmountsOption = Annotated[
    list[str] | None, typer.Option("--amount", help="NAME=NUMBER, of units of a type of your own; may be repeated.")
]

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
        "volume": asdict(r.volume) if r.volume is not None else None,
        "units": {"kind": r.units.kind, "amount": dict(r.units.amounts)} if r.units is not None else None,
        "reason": r.reason,
    }


@reservation_app.command("list")
def reservation_list(
    pool: AnyPoolOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Released and expired ones too.")] = False,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", help="task, booking, window, volume or units; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many at most; a gang counts as one.")] = 1000,
    after: Annotated[str, typer.Option("--after", help="As the last list said where there is more.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Reservations by start."""
    with common.opened("reservation list", output) as app:
        from preprov.control.reserving import bookings, place_of

        pools = (pool,) if pool is not None else ()
        page = bookings(
            app.ctx,
            tenant,
            pools=pools,
            live=not all_,
            limit=limit + 1,
            after=after,
            purposes=_purposes(purpose or ()),
        )
        more = place_of(page[limit - 1]) if len(page) > limit else None
        found = [r for booking in page[:limit] for r in booking.members]
        if output is Output.JSON:
            body = {"reservations": [reservation_json(r) for r in found], "next": more}
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
        note = f"there are more: --after {more}" if more else ""
        common.print_table("", columns, rows, note=note if rows else "no reservations")


def _purposes(names: "Sequence[str]") -> "frozenset[Purpose]":
    from preprov.model.errors import ConfigError
    from preprov.model.reservations import Purpose

    try:
        return frozenset(Purpose(n) for n in names) or frozenset(Purpose)
    except ValueError:
        raise ConfigError(f"no such purpose: {', '.join(names)}", hint=f"one of {', '.join(Purpose)}") from None


@reservation_app.command("create")
def reservation_create(
    pool: PoolOption,
    claimant: Annotated[str, typer.Option("--claimant", help="Who claims: any label.")],
    cpu: Annotated[float, typer.Option("--cpu", min=0)] = 0.0,
    memory: Annotated[float, typer.Option("--memory", min=0, help="GiB")] = 0.0,
    gpu: Annotated[float, typer.Option("--gpu", min=0)] = 0.0,
    volume: Annotated[str, typer.Option("--volume", help="Claim the volume of this name, and no room.")] = "",
    disk: Annotated[float, typer.Option("--disk", min=0, help="GiB of the volume, at the least.")] = 0.0,
    delete_after: Annotated[bool, typer.Option("--delete-after", help="Its release deletes the volume.")] = False,
    kind: Annotated[str, typer.Option("--kind", help="Claim units of this resource type, and no room.")] = "",
    amount: AmountsOption = None,
    start: Annotated[str | None, typer.Option("--start", help="+10m or an ISO time; now if not given.")] = None,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 2h.")] = "1h",
    expires: Annotated[str | None, typer.Option("--expires", help="Void after this unless committed.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Claim capacity softly; warm nodes are kept for it. Or claim a storage volume, or units of a type of your own."""
    with common.opened("reservation create", output) as app:
        from preprov.control.allocating.types import type_of
        from preprov.model.errors import ConfigError
        from preprov.model.plans import stable_id
        from preprov.model.reservations import Purpose, Reservation, Segment, WantedUnits, WantedVolume
        from preprov.model.resources import Resources

        room = Resources(cpu=cpu, memory=memory, gpu=gpu)
        wanted = WantedVolume(volume, disk, keep=not delete_after) if volume else None
        if (wanted is not None and not room.is_zero) or (wanted is None and (disk or delete_after)):
            raise ConfigError("claim either room or a volume", hint="--volume NAME --disk GIB, and nothing else")
        if bool(kind) != bool(amount) or (kind and (wanted is not None or not room.is_zero)):
            raise ConfigError("claim either room or units", hint="--kind TYPE --amount NAME=NUMBER, and nothing else")
        units = WantedUnits.of(kind, _numbers(amount)) if kind else None
        target, now = app.ctx.pool(pool), app.ctx.clock.now()
        begin = common.parse_time(start, target.zone, now) or now
        end = begin + common.parse_span(length)
        claim = Reservation(
            reservation_id=stable_id(pool, claimant, now.isoformat()),
            pool=target.name,
            claimant=claimant,
            segments=(Segment(begin, end, room),),
            expires_at=common.parse_time(expires, target.zone, now) or end + timedelta(minutes=15),
            created_at=now,
            purpose=Purpose.VOLUME if wanted else Purpose.UNITS if units else Purpose.BOOKING,
            volume=wanted,
            units=units,
        )
        made = type_of(app.ctx, target, claim).reserve(target, claim)
        _show("reservation create", made, app.ctx.clock.now(), output)


@reservation_app.command("commit")
def reservation_commit(reservation_id: str, node_id: str, output: OutputOption = Output.TABLE) -> None:
    """Bind a soft reservation to a node. A volume is made if there is none of its name, and attached."""
    with common.opened("reservation commit", output) as app:
        from preprov.control.allocating.by_hand import bind

        _show("reservation commit", bind(app.ctx, reservation_id, node_id), app.ctx.clock.now(), output)


@reservation_app.command("resize")
def reservation_resize(
    reservation_id: str,
    cpu: Annotated[float | None, typer.Option("--cpu", min=0, help="cores")] = None,
    memory: Annotated[float | None, typer.Option("--memory", min=0, help="GiB")] = None,
    disk: Annotated[float | None, typer.Option("--disk", min=0, help="GiB of a volume: it only grows.")] = None,
    amount: AmountsOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a running task have more or less, where there is `[pool.adjust]`, which goes on from it; or grow a volume."""
    with common.opened("reservation resize", output) as app:
        from preprov.control.allocating.by_hand import resize

        amounts = {k: v for k, v in (("cpu", cpu), ("memory", memory), ("disk", disk)) if v is not None}
        amounts |= _numbers(amount)
        _show("reservation resize", resize(app.ctx, reservation_id, amounts), app.ctx.clock.now(), output)


@reservation_app.command("release")
def reservation_release(
    reservation_id: str,
    reason: Annotated[str, typer.Option("--reason")] = "released by hand",
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a reservation back; a volume is detached. No running task is ended by this: see `preprov run cancel`."""
    with common.opened("reservation release", output) as app:
        from preprov.control.allocating.by_hand import give_back

        _show("reservation release", give_back(app.ctx, reservation_id, reason), app.ctx.clock.now(), output)


@reservation_app.command("units")
def reservation_units(
    pool: PoolOption,
    kind: Annotated[
        str | None, typer.Option("--kind", help="vm, process, container, job, gpu, volume or your own.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What there is of each resource type, and who holds it."""
    with common.opened("reservation units", output) as app:
        from preprov.control.allocating.by_hand import units

        found = units(app.ctx, app.ctx.pool(pool), kind)
        if output is Output.JSON:
            body = {"units": [_unit_json(u) for u in found]}
            common.print_json(common.envelope("reservation units", pool, app.ctx.clock.now(), body))
            return
        rows = [
            (u.kind, u.name, u.node_id, u.holding, _amounts(u.amount), ", ".join(u.holders), u.detail) for u in found
        ]
        columns = ("type", "unit", "node", "is", "amount", "holders", "state")
        common.print_table("", columns, rows, note="" if rows else "nothing there")


def _unit_json(u: "Unit") -> dict[str, object]:
    return {
        "kind": u.kind,
        "name": u.name,
        "node_id": u.node_id,
        "holding": str(u.holding),
        "amount": dict(u.amount),
        "holders": list(u.holders),
        "detail": u.detail,
    }


def _numbers(told: list[str] | None) -> dict[str, float]:
    from preprov.model.errors import ConfigError

    out = {}
    for word in told or ():
        name, _, number = word.partition("=")
        try:
            out[name] = float(number)
        except ValueError:
            raise ConfigError(f"{word!r} is no amount", hint="--amount NAME=NUMBER") from None
    return out


def _amounts(amount: "Mapping[str, float]") -> str:
    return ", ".join(f"{v:g} {k}" for k, v in amount.items() if v)


def _show(command: str, r: "Reservation", now: object, output: Output) -> None:
    if output is Output.JSON:
        body = {"reservation": reservation_json(r)}
        common.print_json(common.envelope(command, r.pool, now, body))  # type: ignore[arg-type]
        return
    typer.echo(f"{r.reservation_id} of {r.claimant}: {r.state}" + (f" on {r.node_id}" if r.node_id else ""))
