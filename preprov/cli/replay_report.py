"""The report of a replay or of a what-if: one HTML file with everything in it, to be read without a network."""

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from preprov import figures
from preprov.demo.report import PAGE, inline
from preprov.replay.frontier import OURS, base_wait_s, cheapest, compared

if TYPE_CHECKING:
    from preprov.replay.played import Played, Run
    from preprov.replay.sweep import Sweep

SETTING_COLUMNS: Final = (
    "policy",
    "knob",
    "mean wait",
    "p95",
    "p99",
    "warm hits",
    "of scheduled",
    "never started",
    "node-hours",
    "overhead",
    "cost",
)
_TENANT_COLUMNS: Final = ("tenant", "instances", "core-hours", "mean wait", "p95", "warm hits")


def setting_row(policy: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of figures in SETTING_COLUMNS."""
    return (
        policy,
        _number(row["knob"]),
        _seconds(row["wait_mean_s"]),
        _seconds(row["wait_p95_s"]),
        _seconds(row["wait_p99_s"]),
        _share(row["warm_hit_ratio"]),
        _share(row["warm_hit_ratio_scheduled"]),
        f"{row['unstarted']:,}",
        f"{row['node_hours']:,.0f}",
        _usd(row["idle_cost_usd"]),
        _usd(row["cost_usd"]),
    )


def savings(policies: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Sentences in money: what each other policy pays for waiting no longer than ours does."""
    wait = base_wait_s(policies)
    if wait is None:
        return []
    out = []
    for share, words in ((0.25, "a quarter of"), (1.0, "no more than")):
        ours = cheapest(policies.get(OURS, ()), wait * share)
        if ours is None:
            continue
        price = f"Mean wait {words} the {wait:.0f} s of a reactive autoscaler: preprov pays {_usd(ours['cost_usd'])}"
        others = [_against(n, r, wait * share, ours) for n, r in policies.items() if n not in (OURS, "clairvoyant")]
        out.append(f"{price}; {', '.join(o for o in others if o)}.")
    return out


def _against(name: str, rows: Sequence[Mapping[str, Any]], wait_s: float, ours: Mapping[str, Any]) -> str:
    best = cheapest(rows, wait_s)
    if best is None:
        return f"{name} cannot with any setting tried"
    less = 1 - ours["cost_usd"] / best["cost_usd"] if best["cost_usd"] else 0.0
    return f"{name} {_usd(best['cost_usd'])} ({less:+.0%} saved)"


def write(sweep: "Sweep", path: Path, zone: str, command: str) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(sweep, zone, command), encoding="utf-8")


def render(sweep: "Sweep", zone: str, command: str) -> str:
    """The whole page."""
    body: list[str] = []
    for scale, bound in sweep.clairvoyant.items():
        body += _scale(sweep, scale, bound, zone, f"{scale:g}".replace(".", "-"))
    left = ", ".join(f"{n:,} {why}" for why, n in sweep.judged["left_out"].items())
    without = f" Left out: {html.escape(left)}." if left else ""
    said = f"<p>{sweep.judged['instances']:,} task instances judged.{without}</p>"
    return PAGE.substitute(
        title=html.escape(f"Policies on {sweep.trace}"),
        subtitle=html.escape(f"{sweep.judged['from']} to {sweep.judged['to']}, replayed: {command}"),
        body="\n".join([said, *body, _HOW]),
    )


def _scale(sweep: "Sweep", scale: float, bound: Sequence[Mapping[str, float]], zone: str, name: str) -> list[str]:
    policies = sweep.rows(scale)
    picture = inline(figures.frontiers(policies, bound, fmt="svg"), f"frontier-{name}")
    rows = [setting_row(p, r) for p, settings in policies.items() for r in settings]
    told = compared(policies, bound)
    out = [
        f"<h2>Lead times x {scale:g}</h2>",
        f"<figure>{picture}</figure>",
        *(f"<p>{html.escape(s)}</p>" for s in savings(policies)),
        f'<p class="quiet">{html.escape(verdict(told))}</p>' if verdict(told) else "",
        table(SETTING_COLUMNS, rows, strong=OURS),
    ]
    chosen = shown(sweep, scale)
    if chosen is not None:
        out += _one(*chosen, zone, name)
    return out


def verdict(told: Mapping[str, Any]) -> str:
    """The comparison in a sentence; "" if ours was not played."""
    if OURS not in told["overhead_at_quarter_usd"]:
        return ""
    parts = []
    if told["overhead_ratio"] is not None:
        parts.append(f"overhead at a quarter of reactive's wait {told['overhead_ratio']:.2f} of the best other's")
    if told["dominates"]:
        parts.append(f"preprov is nowhere dearer nor slower than {', '.join(told['dominates'])}")
    if told["beaten_somewhere_by"]:
        parts.append(f"somewhere on its frontier it is beaten by {', '.join(told['beaten_somewhere_by'])}")
    if told["over_bound"]:
        low, high = told["over_bound"]
        parts.append(f"it costs {low:.2f} to {high:.2f} times the clairvoyant bound at equal mean delay")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def shown(sweep: "Sweep", scale: float) -> "tuple[Run, Played] | None":
    """The replay whose nodes are drawn: ours that waits a quarter of reactive's wait at least cost, else the last."""
    runs = {r: p for r, p in sweep.played.items() if r.lead_scale == scale}
    mine = {r: p for r, p in runs.items() if r.policy == OURS} or runs
    wait = base_wait_s(sweep.rows(scale))
    best = cheapest([p.row for p in mine.values()], wait / 4) if wait is not None else None
    for run, played in mine.items():
        if played.row is best:
            return run, played
    return next(reversed(mine.items()), None)


def _one(run: "Run", played: "Played", zone: str, name: str) -> list[str]:
    """Nodes over time and tenants of one replay."""
    at = [datetime.fromtimestamp(t, UTC) for t in played.nodes.get("at", ())]
    counts = {k: v for k, v in played.nodes.items() if k != "at"}
    title = f"Nodes under {run.policy}, knob {run.knob:g}"
    picture = inline(figures.nodes_over_time(at, counts, zone, fmt="svg", title=title), f"nodes-{name}")
    tenants = [
        (
            t["tenant"],
            f"{t['instances']:,}",
            f"{t['core_hours']:,.0f}",
            _seconds(t["wait_mean_s"]),
            _seconds(t["wait_p95_s"]),
            _share(t["warm_hit_ratio"]),
        )
        for t in played.tenants
    ]
    return [f"<figure>{picture}</figure>", table(_TENANT_COLUMNS, tenants)]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], strong: str = "") -> str:
    """An HTML table; rows that begin with `strong` stand out."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{html.escape(c)}</td>" for c in row)
        lines.append(f'<tr class="{"live" if strong and row[0] == strong else ""}">{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


_HOW: Final = (
    "<h2>How to read this</h2><p>Wait is provision wait: ready to run, and no node. Overhead is the bill less price "
    "times the used share of ready nodes, so that booting, standby storage, minimum billing and half-empty nodes are "
    "in it. Each dot is one setting of a policy's knob. Nobody, whatever he knows beforehand, gets into the grey "
    "area: it is proven in waits, one of which may delay all that come after it in a run, so that it lies low where "
    "runs have many tasks. By mean delay (start less the start there would have been had nothing waited) the bound is "
    "higher; figures against it compare delays. The policy preprov is the production code on a virtual clock; nothing "
    "after an instant is known to it then.</p>"
)


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:g}"


def _seconds(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.1f} s"


def _share(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.1%}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.2f} USD"
