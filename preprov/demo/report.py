"""report.html: one file with everything in it, to be read without a network; and the same pictures as PNG beside it."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Final
from zoneinfo import ZoneInfo

from preprov import figures
from preprov.contracts import PoolSnapshot
from preprov.demo.compare import CLOSE, CLOSE_S, LIVE, Agreement, Outcome
from preprov.demo.flow_runs import FlowRun
from preprov.demo.recorder import Recorder
from preprov.demo.scene import POOL, Scene
from preprov.model.demand import DemandCurve

COLUMNS: Final = (
    "policy",
    "wait p50",
    "wait p95",
    "warm hits",
    "node-hours",
    "idle cost",
    "cost",
)

_PAID_BY: Final = {"reactive": "what that would have", "always-on": "what a pool that is always on would have"}
PAGE: Final = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #1d2733; --quiet: #5b6775; --line: #e1e6ed; --good: #2a8c6a; }
body { margin: 0; background: #f6f8fa; color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
p { margin: .4rem 0 .8rem; } .quiet { color: var(--quiet); }
figure { margin: .75rem 0; padding: .75rem; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
figure svg { width: 100%; height: auto; display: block; font-family: "DejaVu Sans", Verdana, sans-serif; }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: var(--quiet); }
tr.live td { font-weight: 600; color: var(--good); } tr:last-child td { border-bottom: 0; }
table.log td { text-align: left; font-size: .9em; vertical-align: top; }
table.log td.when { white-space: nowrap; color: var(--quiet); }
code { background: #eef1f5; padding: .05rem .3rem; border-radius: 4px; font-size: .9em; }
</style></head><body><main>
<h1>$title</h1>
<p class="quiet">$subtitle</p>
$body
</main></body></html>
"""
)


@dataclass(frozen=True)
class Findings:
    """Everything the report is made from.

    Attributes:
        day_ahead: the forecast of the evening before; at_start: the demand as known when the slice began.
        notes: facts about the play worth a line each.
    """

    scene: Scene
    recorder: Recorder
    outcomes: Sequence[Outcome]
    agreement: Agreement | None
    flows: Sequence[FlowRun]
    snapshots: Sequence[PoolSnapshot]
    day_ahead: DemandCurve | None = None
    at_start: DemandCurve | None = None
    notes: Sequence[str] = ()


def write(findings: Findings, path: Path) -> Path:
    """Write the report and its pictures; returns the report's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, png in pictures(findings, "png").items():
        (path.parent / f"{name}.png").write_bytes(png)
    path.write_text(render(findings), encoding="utf-8")
    return path


def pictures(f: Findings, fmt: str) -> dict[str, bytes]:
    """All pictures by name, in the order of the report."""
    zone, scene = f.scene.company.zone, f.scene
    actual = f.recorder.demand()
    out: dict[str, bytes] = {}
    if f.day_ahead is not None:
        title = "A day ahead, as forecast in the evening before"
        out["forecast-day"] = figures.forecast_fan(f.day_ahead, zone, fmt=fmt, title=title)
    if f.at_start is not None:
        title = "The next hour, as known when the slice began, and as it came"
        out["forecast-slice"] = figures.forecast_fan(f.at_start, zone, actual=actual, fmt=fmt, title=title)
    out["plan"] = figures.plan_against_actual(f.snapshots, zone, fmt=fmt)
    out["nodes"] = figures.node_timeline(f.recorder.stretches(scene.end), f.recorder.busy(scene.end), zone, fmt=fmt)
    out["waits"] = figures.wait_histogram({o.name: o.waits for o in f.outcomes}, fmt=fmt)
    return out


def render(f: Findings) -> str:
    """The whole page."""
    zone = ZoneInfo(f.scene.company.zone)
    start, end = (t.astimezone(zone) for t in (f.scene.start, f.scene.end))
    drawn = {name: inline(svg, name) for name, svg in pictures(f, "svg").items()}
    body = [
        "<h2>What it came to</h2>",
        outcome_table(f.outcomes),
        f"<p>{html.escape(verdict(f.outcomes, f.agreement))}</p>",
        *(f'<p class="quiet">{html.escape(n)}</p>' for n in f.notes),
        *_section("What was expected", drawn, ("forecast-day", "forecast-slice")),
        *_section("The plan, and what was there", drawn, ("plan", "nodes")),
        *_section("Waiting for a node", drawn, ("waits",)),
        "<h2>What was done, and why</h2>",
        _log(f, zone),
        "<h2>How it was run</h2>",
        _how(f),
    ]
    return PAGE.substitute(
        title=f"A night of pool {POOL}, {start:%d %B %Y}",
        subtitle=html.escape(
            f"{start:%H:%M} to {end:%H:%M} {f.scene.company.zone}, played {f.scene.speed:g} times as fast on real "
            f"nodes of one machine; seed {f.scene.seed}"
        ),
        body="\n".join(body),
    )


def inline(svg: bytes, name: str) -> str:
    """An SVG as it stands inside a page: no prolog, no namespaces, ids that no other picture has."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def row(o: Outcome) -> tuple[str, ...]:
    """An outcome in the columns of the table."""
    return (
        o.name,
        seconds(o.wait_p50_s),
        seconds(o.wait_p95_s),
        "" if o.warm_hits != o.warm_hits else f"{o.warm_hits:.0%}",
        f"{o.node_hours:.2f}",
        usd(o.idle_usd),
        usd(o.usd),
    )


def seconds(value: float) -> str:
    """Seconds for people; "" if not known."""
    return "" if value != value else f"{value:.0f} s"


def usd(value: float | None) -> str:
    """Money for people."""
    return "unknown" if value is None else f"{value:.2f} USD"


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """The table that the demonstration ends with."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in COLUMNS)
    lines = []
    for o in outcomes:
        cells = "".join(f"<td>{html.escape(c)}</td>" for c in row(o))
        lines.append(f'<tr class="{"live" if o.name == LIVE else ""}">{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def verdict(outcomes: Sequence[Outcome], close: Agreement | None) -> str:
    """What the table says, in a sentence or two."""
    by = {o.name: o for o in outcomes}
    live, reactive, always = by.get(LIVE), by.get("reactive"), by.get("always-on")
    parts = []
    if live is not None:
        parts.append(f"Live, {live.warm_hits:.0%} of {live.instances} task instances had a node when they were ready")
        if reactive is not None:
            parts[-1] += (
                f"; under a reactive autoscaler {reactive.warm_hits:.0%} had, and one in twenty waited "
                f"{seconds(reactive.wait_p95_s)} or longer"
            )
        parts[-1] += "."
        parts.extend(_against(live, [o for o in (reactive, always) if o is not None]))
    if close is not None:
        word = "agree" if close.close else "do not agree"
        parts.append(
            f"Live and replayed {word}: cost {close.usd:+.0%}, node-hours {close.node_hours:+.0%}, mean wait "
            f"{close.wait_mean_s:+.0f} s (within {CLOSE:.0%} and {CLOSE_S:.0f} s is close)."
        )
    return " ".join(parts)


def _against(live: Outcome, others: Sequence[Outcome]) -> list[str]:
    """Live cost as a share of what others would have paid."""
    if live.usd is None:
        return []
    shares = [f"{live.usd / o.usd:.0%} of {_PAID_BY.get(o.name, o.name)}" for o in others if o.usd]
    return [f"It cost {' and '.join(shares)}."] if shares else []


def _section(title: str, drawn: dict[str, str], names: Sequence[str]) -> list[str]:
    there = [f"<figure>{drawn[n]}</figure>" for n in names if n in drawn]
    return [f"<h2>{html.escape(title)}</h2>", *there] if there else []


def _log(f: Findings, zone: ZoneInfo) -> str:
    lines = [
        f'<tr><td class="when">{r.at.astimezone(zone):%H:%M:%S}</td><td>{html.escape(r.action.reason)}</td></tr>'
        for r in f.recorder.records
    ]
    return f'<table class="log"><tbody>{"".join(lines)}</tbody></table>'


def _how(f: Findings) -> str:
    weeks = (f.scene.start - f.scene.history_start) / timedelta(weeks=1)
    flows = "".join(
        f"<li><code>{html.escape(r.flow)}</code>: flow run <code>{r.run_id}</code>, {r.state}</li>" for r in f.flows
    )
    return (
        f"<p>History: {weeks:g} weeks of a retailer's batch work, drawn by a seeded model "
        "(<code>preprov.demo.company</code> says what each of its numbers stands for). The nodes were processes of "
        "this machine with real images and data, the tasks real programs; provisioning was delayed as a cloud would. "
        "The other lines of the table are the same slice on the replay core: same work, prices and lead times.</p>"
        f"<ul>{flows}</ul>"
    )
