"""whatif, scorecard: what other policies would have cost on the own history; what was promised against what came."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.commands.replay import PoliciesOption, WorkersOption
from preprov.cli.common import AtOption, Output, OutputOption, PoolOption

if TYPE_CHECKING:
    from preprov.control.scorecard import Scorecard
    from preprov.replay.whatif import Option, WhatIf

_COLUMNS = (
    "policy",
    "objective",
    "mean wait",
    "p95",
    "warm hits",
    "never started",
    "node-hours",
    "idle cost",
    "cost",
    "landed",
)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.command("whatif")(whatif)
    app.command("scorecard")(scorecard)


def whatif(
    pool: PoolOption,
    days: Annotated[float, typer.Option("--days", min=0.1, help="How many of the last days.")] = 7.0,
    policies: PoliciesOption = None,
    slo: Annotated[str, typer.Option("--slo", help="Hit rates to price, by commas.")] = "0.95,0.99",
    land_by: Annotated[
        list[str] | None,
        typer.Option("--land-by", help="DAG=SPAN after a run is due, such as etl=45m; *=SPAN for all; repeat it."),
    ] = None,
    at: AtOption = None,
    workers: WorkersOption = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw cost against wait: .png or .svg.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What the last days would have cost and waited under each policy, and what an SLO or a land_by costs."""
    with common.opened("whatif", output) as app, common.progress("whatif") as tell:
        import os

        from preprov.control.processes import single_threaded
        from preprov.replay.whatif import what_if
        from preprov.replay.yardstick import POLICIES

        chosen = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, chosen.zone, app.ctx.clock.now()))
        with single_threaded():
            found = what_if(
                ctx,
                chosen,
                days=days,
                policies=_policies(policies) if policies else POLICIES,
                slos=_shares(slo),
                land_by=_spans(land_by),
                workers=workers or os.cpu_count() or 1,
                progress=tell,
            )
        if found.promise is not None:
            app.ctx.ports.promises.save(found.promise)
        if picture is not None:
            _draw(found, picture)
        if output is Output.JSON:
            common.print_json(common.envelope("whatif", pool, app.ctx.clock.now(), _document(found)))
            return
        _print(found, chosen.zone)


def scorecard(
    pool: PoolOption,
    last: Annotated[str, typer.Option("--last", help="How far back: 7d, 12h, or an ISO time.")] = "7d",
    at: AtOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What the last `preprov whatif` promised of a day, against what the days since came to."""
    with common.opened("scorecard", output) as app:
        from preprov.control.scorecard import scorecard as score

        chosen = app.ctx.pool(pool)
        now = common.parse_time(at, chosen.zone, app.ctx.clock.now()) or app.ctx.clock.now()
        card = score(app.ctx.at(now), chosen, common.since_time(last, "7d", chosen.zone, now))
        if output is Output.JSON:
            body = {
                "since": card.since,
                "until": card.until,
                "watched_days": card.realised.watched_days,
                "instances": card.realised.instances,
                "attributed": card.realised.attributed,
                "promise": asdict(card.promise) if card.promise else None,
                "rows": card.rows(),
            }
            common.print_json(common.envelope("scorecard", pool, now, body))
            return
        _print_card(card, chosen.zone)


def _policies(text: str) -> list[str]:
    from preprov.model.errors import ConfigError
    from preprov.replay.registry import names

    chosen = [p.strip() for p in text.split(",") if p.strip()]
    unknown = [p for p in chosen if p not in names()]
    if unknown or not chosen:
        raise ConfigError(f"there is no policy {(unknown or [text])[0]!r}", hint=f"policies: {', '.join(names())}")
    return chosen


def _shares(text: str) -> list[float]:
    from preprov.model.errors import ConfigError

    try:
        found = [float(p) for p in text.split(",") if p.strip()]
    except ValueError:
        raise ConfigError(f"--slo {text}: not numbers by commas", hint="0.95,0.99") from None
    if any(not 0 < s < 1 for s in found):
        raise ConfigError(f"--slo {text}: a hit rate lies between 0 and 1", hint="0.95,0.99")
    return found


def _spans(pairs: list[str] | None) -> dict[str, timedelta]:
    from preprov.model.errors import ConfigError

    out = {}
    for pair in pairs or ():
        name, sign, span = pair.partition("=")
        if not sign or not name:
            raise ConfigError(f"--land-by {pair}: not DAG=SPAN", hint="etl=45m")
        out[name] = common.parse_span(span)
    return out


def _document(found: "WhatIf") -> dict[str, Any]:
    return {
        "since": found.since,
        "until": found.until,
        "days": found.days,
        "instances": found.judged["instances"],
        "left_out": found.judged["left_out"],
        "options": [_option(found, o) for o in found.options],
        "bound": [{**b, "cost_usd": found.per_day(b["cost_usd"])} for b in found.bound],
        "slo": found.slo_prices(),
        "land_by": found.land_by_price(),
        "sentences": found.sentences(),
        "played": asdict(found.pace),
        "promise": asdict(found.promise) if found.promise else None,
    }


def _option(found: "WhatIf", o: "Option") -> dict[str, Any]:
    row = o.row
    return {
        "policy": o.policy,
        "objective": o.objective,
        "late_usd_per_minute": o.late_usd_per_minute,
        "knob": row["knob"],
        "usd_per_day": found.per_day(row["cost_usd"]),
        "idle_usd_per_day": found.per_day(row["idle_cost_usd"]),
        "node_hours_per_day": found.per_day(row["node_hours"]),
        **{k: row[k] for k in ("warm_hit_ratio", "wait_mean_s", "wait_p95_s", "wait_p99_s", "unstarted")},
        **{k: row[k] for k in ("land_by_runs", "land_by_met")},
    }


def _draw(found: "WhatIf", file: Path) -> None:
    from preprov.figures import frontiers
    from preprov.model.errors import ConfigError

    fmt = file.suffix.lstrip(".").lower()
    if fmt not in ("png", "svg"):
        raise ConfigError(f"no pictures of kind {file.suffix!r}", where=str(file), hint=".png or .svg")
    policies: dict[str, list[dict[str, Any]]] = {}
    for o in found.options:
        policies.setdefault(o.policy, []).append({**o.row, "cost_usd": found.per_day(o.row["cost_usd"])})
    bound = [{**b, "cost_usd": b["cost_usd"] / found.days} for b in found.bound]
    title = f"Pool {found.pool}, {found.days:.1f} days: cost a day against provision wait"
    file.write_bytes(frontiers(policies, bound, fmt=fmt, title=title))


def _print(found: "WhatIf", zone: str) -> None:
    from preprov.replay.frontier import OURS

    def seconds(value: float | None) -> str:
        return "" if value is None or value != value else f"{value:.1f} s"

    def share(value: float | None) -> str:
        return "" if value is None or value != value else f"{value:.1%}"

    def usd(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2f} USD"

    typer.echo(
        f"{found.judged['instances']} task instances of pool {found.pool}, {common.both_times(found.since, zone)} to "
        f"{common.both_times(found.until, zone)}"
    )
    rows = []
    for o in found.options:
        f = _option(found, o)
        rows.append(
            (
                *(o.policy, o.objective, seconds(f["wait_mean_s"]), seconds(f["wait_p95_s"])),
                *(share(f["warm_hit_ratio"]), f"{f['unstarted']}", f"{f['node_hours_per_day']:.1f}"),
                *(usd(f["idle_usd_per_day"]), usd(f["usd_per_day"]), share(f["land_by_met"])),
            )
        )
    common.print_table("per day", _COLUMNS, rows)
    for sentence in found.sentences():
        typer.echo(sentence)
    if found.promise is not None:
        typer.echo(f"promise {found.promise.promise_id} is kept: preprov scorecard --pool {found.pool} --last 7d")
    for note in (found.pace.words(), *found.pace.notes) if any(o.policy == OURS for o in found.options) else ():
        typer.echo(note)


def _print_card(card: "Scorecard", zone: str) -> None:
    if card.promise is None:
        typer.echo(f"nothing was promised of pool {card.pool} yet: preprov whatif --pool {card.pool}")
    else:
        p = card.promise
        typer.echo(
            f"promised {common.both_times(p.at, zone)}: {p.policy}, {p.objective}; from {p.instances} task instances"
        )
    came = card.realised
    typer.echo(f"realised: {came.watched_days:.2f} watched days, {came.instances} task instances")
    if came.attributed:
        typer.echo(f"{came.attributed} of them were started by others: waits as `preprov waits` takes them apart")
    rows = [(r["measure"], *(_figure(r[k]) for k in ("promised", "realised", "difference"))) for r in card.rows()]
    common.print_table("", ("measure", "promised", "realised", "difference"), rows)


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"
