"""pool leads: how long nodes take to be ready, as learnt, part by part."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from preprov.cli import common
from preprov.cli.common import AtOption, Output, OutputOption, TzOption

if TYPE_CHECKING:
    from preprov.model.offerings import LeadTime, Offering, Standby
    from preprov.model.pools import Group, Pool
    from preprov.planning.leads import Leads

_SHOWN = (0.5, 0.9, 0.95, 0.99)


def attach(pool_app: typer.Typer) -> None:
    """Hang the command on `pool`."""
    pool_app.command("leads")(pool_leads)


def pool_leads(pool: str, at: AtOption = None, tz: TzOption = None, output: OutputOption = Output.TABLE) -> None:
    """Lead times of a pool's offerings from each standby state: learnt quantiles, their parts, failures, standing."""
    with common.opened("pool leads", output) as app:
        from preprov.control.gathering import current_leads

        target = app.ctx.pool(pool)
        ctx = app.ctx.at(common.parse_time(at, target.zone, app.ctx.clock.now()))
        rows = list(_rows(target, current_leads(ctx, target)))
        if output is Output.JSON:
            common.print_json(common.envelope("pool leads", pool, ctx.clock.now(), {"leads": rows}))
            return
        columns = ("group", "type", "zone", "from", "p50", "p95", "seen", "fail", "parts (median s)", "standing")
        common.print_table("", columns, [_words(r, tz or target.zone) for r in rows])


def _rows(pool: "Pool", leads: "Leads") -> Iterator[dict[str, Any]]:
    from preprov.model.offerings import Standby

    for group in pool.groups:
        kept = sorted(group.standby_states - {Standby.RUNNING, Standby.COLD})
        for offering in group.offerings:
            for state in (Standby.COLD, *kept):
                yield _row(leads, group, offering, state)


def _row(leads: "Leads", group: "Group", offering: "Offering", state: "Standby") -> dict[str, Any]:
    lead = leads(group.name, offering, state)
    return {
        "group": group.name,
        "provider": group.provider,
        "offering": offering.key,
        "instance_type": offering.instance_type,
        "zone": offering.zone,
        "from": str(state),
        "observations": lead.observations,
        "quantiles_s": _quantiles(lead),
        "configured_s": _quantiles(group.lead_time(state)),
        "failure_rate": round(leads.failure_rate(group.name, offering, state), 6),
        "parts": {stage: _quantiles(part) for stage, part in leads.split(group.name, offering, state).items()},
        "tried_last_until": leads.insufficient.get((group.name, offering.key)),
    }


def _quantiles(lead: "LeadTime") -> dict[str, float]:
    return {f"p{q * 100:g}": round(lead.quantile(q), 3) for q in _SHOWN}


def _words(r: dict[str, Any], zone: str) -> tuple[object, ...]:
    parts = ", ".join(f"{stage} {q['p50']:.3g}" for stage, q in r["parts"].items())
    until = r["tried_last_until"]
    return (
        *(r["group"], r["instance_type"], r["zone"], r["from"]),
        *(f"{r['quantiles_s']['p50']:.1f} s", f"{r['quantiles_s']['p95']:.1f} s"),
        *(r["observations"] or "configured", f"{r['failure_rate']:.1%}", parts),
        f"tried last until {common.both_times(until, zone)}" if until else "good",
    )
