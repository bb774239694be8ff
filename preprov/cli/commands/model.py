"""model list|show|retrain|promote|rollback, model quarantine list|add|lift."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import AnyPoolOption, Output, OutputOption, PoolOption, TzOption, YesOption

if TYPE_CHECKING:
    from datetime import date

    from preprov.app import App
    from preprov.contracts import ModelVersion
    from preprov.control.learning import ModelReport
    from preprov.model.learning import BacktestRecord, QuarantinedDay

model_app = typer.Typer(help="Models of what is not known: champion, challengers, promotions.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Days that are not learnt from.", no_args_is_help=True)
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept.")]
DayArgument = Annotated[str, typer.Argument(help="Date in the pool's zone: 2025-03-01.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    model_app.add_typer(quarantine_app, name="quarantine")
    app.add_typer(model_app, name="model")


def model_json(v: "ModelVersion") -> dict[str, object]:
    """A version as JSON."""
    return {
        "version": v.version,
        "pool": v.pool,
        "kind": v.kind,
        "format": v.format,
        "sha256": v.sha256,
        "created_at": v.created_at,
        "champion": v.champion,
        "metrics": dict(v.metrics),
        "backtest_id": v.backtest_id,
        "reason": v.reason,
    }


def backtest_json(b: "BacktestRecord") -> dict[str, object]:
    """A backtest as JSON."""
    return {k: v for k, v in asdict(b).items() if k not in ("pool", "kind")}


def quarantine_json(d: "QuarantinedDay") -> dict[str, object]:
    """A day as JSON."""
    fields = {k: v for k, v in asdict(d).items() if k != "pool"}
    return {**fields, "day": d.day.isoformat(), "in_force": d.in_force}


@model_app.command("list")
def model_list(pool: AnyPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """Model versions, newest first; * is the champion."""
    with common.opened("model list", output) as app:
        versions = app.ctx.ports.models.versions(pool)
        if output is Output.JSON:
            models = [model_json(v) for v in versions]
            common.print_json(common.envelope("model list", pool, app.ctx.clock.now(), {"models": models}))
            return
        rows = [
            ("*" if v.champion else "", v.version, v.pool, f"{v.created_at:%Y-%m-%d %H:%M}Z", v.backtest_id, v.reason)
            for v in versions
        ]
        columns = ("", "version", "pool", "made", "backtest", "reason")
        common.print_table("", columns, rows, note="" if rows else "no models yet")


@model_app.command("show")
def model_show(pool: PoolOption, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """The champion of a pool: how its forecasts did, who challenged it, what is kept out of its training."""
    with common.opened("model show", output) as app:
        from preprov.control.learning import report

        target = app.ctx.pool(pool)
        found = report(app.ctx, target)
        if output is Output.JSON:
            body = {
                "champion": model_json(found.champion) if found.champion else None,
                "promoted_at": found.promotions[0].at if found.promotions else None,
                "fallback": found.fallback,
                "watch": found.watch.as_dict(),
                "challengers": [model_json(v) for v in found.challengers],
                "backtests": [backtest_json(b) for b in found.backtests],
                "promotions": [
                    {k: v for k, v in asdict(p).items() if k not in ("pool", "kind")} for p in found.promotions
                ],
                "quarantine": [quarantine_json(d) for d in found.quarantine],
            }
            common.print_json(common.envelope("model show", pool, app.ctx.clock.now(), body))
            return
        _print_report(found, tz or target.zone)


def _print_report(found: "ModelReport", zone: str) -> None:
    if found.champion is None:
        typer.echo("no model yet: forecasts take past days as they were")
    else:
        since = common.both_times(found.promotions[0].at if found.promotions else found.champion.created_at, zone)
        typer.echo(f"champion {found.champion.version} since {since}: {found.champion.reason}")
    if found.fallback:
        typer.echo(f"fallback: {found.fallback}")
    seen = found.watch
    if seen.forecasts:
        typer.echo(
            f"last two weeks: {seen.forecasts} forecasts, {seen.hours} hours; 80 % intervals covered "
            f"{seen.coverage['80']:.0%}, 90 % ones {seen.coverage['90']:.0%}"
        )
    typer.echo(f"drift: {'; '.join(str(d) for d in seen.drifts) or 'none'}")
    if seen.collapsed:
        typer.echo(f"collapsed: {seen.collapsed}")
    _print_backtests(found.backtests, zone)
    promotions = [
        (common.both_times(p.at, zone), p.version, p.before, "rollback" if p.rollback else "", p.actor, p.reason)
        for p in found.promotions
    ]
    common.print_table("promotions", ("at", "version", "in place of", "", "by", "why"), promotions)
    _print_days(found.quarantine)


def _print_backtests(backtests: Sequence["BacktestRecord"], zone: str) -> None:
    rows = [
        (
            b.backtest_id,
            common.both_times(b.at, zone),
            b.cause,
            len(b.origins),
            "" if b.p is None else f"{b.p:.3f}",
            "promoted" if b.promoted else "kept beside",
            b.reason,
        )
        for b in backtests
    ]
    common.print_table("challengers", ("backtest", "at", "because", "origins", "p", "decision", "why"), rows)


def _print_days(days: Sequence["QuarantinedDay"]) -> None:
    rows = [
        (d.day, "in force" if d.in_force else f"lifted {d.lifted_at:%Y-%m-%d}", d.actor, d.reason, d.lift_reason)
        for d in days
    ]
    columns = ("day", "state", "by", "reason", "lifted because")
    common.print_table("quarantine", columns, rows, note="" if rows else "no days in quarantine")


@model_app.command("retrain")
def model_retrain(pool: PoolOption, output: OutputOption = Output.TABLE) -> None:
    """Fit a challenger on what is known now, compare it with the champion, and promote it on evidence only."""
    with common.opened("model retrain", output) as app:
        from preprov.control.learning import retrain

        target = app.ctx.pool(pool)
        with common.progress(f"retrain {pool}"):
            lesson = retrain(app.ctx, target)
        made = lesson.challenge
        if made is None:  # never: it was asked for
            return
        if output is Output.JSON:
            body = {
                "champion": made.champion.version,
                "challenger": made.challenger.version,
                "backtest": backtest_json(made.record),
                "watch": lesson.watch.as_dict(),
                "quarantine": [quarantine_json(d) for d in lesson.review.held],
                "curves": lesson.curves.version if lesson.curves else None,
            }
            common.print_json(common.envelope("model retrain", pool, app.ctx.clock.now(), body))
            return
        decision = "promoted" if made.record.promoted else f"kept beside the champion {made.champion.version}"
        typer.echo(f"challenger {made.challenger.version} {decision}: {made.record.reason}")
        if lesson.curves is not None:
            typer.echo(f"use of tasks over time: {lesson.curves.version} taught, {lesson.curves.reason}")
        for day in (*lesson.review.added, *lesson.review.lifted):
            state = f"put into quarantine: {day.reason}" if day.in_force else f"lifted: {day.lift_reason}"
            typer.echo(f"{day.day} {state}")


@model_app.command("promote")
def model_promote(
    version: Annotated[str, typer.Argument(help="Version, a part of it that no other has, or `newest`.")],
    pool: PoolOption,
    reason: ReasonOption,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a version champion whatever its backtest says; the next pass forecasts with it."""
    with common.opened("model promote", output) as app:
        from preprov.control.challenge import promote

        target = app.ctx.pool(pool)
        common.confirm(f"Make {version} the champion of pool {pool}?", yes)
        _print_champion(app, promote(app.ctx, target, version, reason), "model promote", output)


@model_app.command("rollback")
def model_rollback(
    pool: PoolOption, reason: ReasonOption, yes: YesOption = False, output: OutputOption = Output.TABLE
) -> None:
    """Make the champion before the present one champion again."""
    with common.opened("model rollback", output) as app:
        from preprov.control.challenge import rollback

        target = app.ctx.pool(pool)
        common.confirm(f"Take the last promotion in pool {pool} back?", yes)
        _print_champion(app, rollback(app.ctx, target, reason), "model rollback", output)


def _print_champion(app: "App", version: "ModelVersion", command: str, output: Output) -> None:
    if output is Output.JSON:
        body = {"champion": model_json(version)}
        common.print_json(common.envelope(command, version.pool, app.ctx.clock.now(), body))
        return
    typer.echo(f"{version.version} is champion of pool {version.pool}: {version.reason}")


@quarantine_app.command("list")
def quarantine_list(
    pool: PoolOption,
    all_: Annotated[bool, typer.Option("--all", help="Lifted ones too.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Days that are not learnt from, with the reason."""
    with common.opened("model quarantine list", output) as app:
        app.ctx.pool(pool)
        days = [d for d in app.ctx.ports.learning.quarantined(pool) if all_ or d.in_force]
        _show_days(app, pool, days, "model quarantine list", output)


@quarantine_app.command("add")
def quarantine_add(
    day: DayArgument, pool: PoolOption, reason: ReasonOption, output: OutputOption = Output.TABLE
) -> None:
    """Keep a day out of training; it is not lifted but by a person."""
    with common.opened("model quarantine add", output) as app:
        from preprov.control.quarantine import put_in_quarantine

        made = put_in_quarantine(app.ctx, app.ctx.pool(pool), _date(day), reason)
        _show_days(app, pool, [made], "model quarantine add", output)


@quarantine_app.command("lift")
def quarantine_lift(
    day: DayArgument, pool: PoolOption, reason: ReasonOption, output: OutputOption = Output.TABLE
) -> None:
    """Learn from a day again; it is not recognised as strange a second time."""
    with common.opened("model quarantine lift", output) as app:
        from preprov.control.quarantine import lift

        made = lift(app.ctx, app.ctx.pool(pool), _date(day), reason)
        _show_days(app, pool, [made], "model quarantine lift", output)


def _show_days(app: "App", pool: str, days: Sequence["QuarantinedDay"], command: str, output: Output) -> None:
    if output is Output.JSON:
        body: Mapping[str, Any] = {"days": [quarantine_json(d) for d in days]}
        common.print_json(common.envelope(command, pool, app.ctx.clock.now(), body))
        return
    _print_days(days)


def _date(text: str) -> "date":
    from datetime import date

    from preprov.model.errors import ConfigError

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a date", hint="2025-03-01") from None
