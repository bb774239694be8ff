"""Pictures for reports and artifacts, as PNG or SVG bytes. matplotlib is loaded by the first one that is drawn."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import ZoneInfo

import numpy as np

from preprov.contracts import PoolSnapshot
from preprov.model.demand import DemandCurve
from preprov.model.pools import Phase
from preprov.model.resources import KINDS, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASE_COLOURS: Final[Mapping[str, str]] = {
    Phase.READY: "#2a8c6a",
    Phase.WARMING: "#f2b13c",
    Phase.DRAINING: "#c9824a",
    Phase.HIBERNATED: "#8fa3c8",
    Phase.STOPPED: "#c3cad6",
    Phase.FAILED: "#c0392b",
    Phase.LOST: "#7d3c98",
}
_INK: Final = "#1d2733"
_DEMAND: Final = "#1f4e8c"
_ACTUAL: Final = "#d1495b"
_QUIET: Final = "#8a94a3"
_FANS: Final = ((0.05, 0.95, 0.18), (0.1, 0.9, 0.22), (0.25, 0.75, 0.28))
_SERIES: Final = ("#2a8c6a", "#d1495b", "#1f4e8c", "#e08e2b", "#7d5ba6", "#4f9fb5")
_STYLE: Final[Mapping[str, Any]] = {
    "font.size": 10,
    "axes.edgecolor": "#b7c0cc",
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaf0",
    "xtick.color": "#4c5866",
    "ytick.color": "#4c5866",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
}
_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "in_flight": ("running now", "#1f4e8c"),
    "queued": ("queued now", "#4f9fb5"),
    "scheduled": ("due by schedule", "#2a8c6a"),
    "recurring": ("comes back by habit", "#9cc069"),
    "learnt": ("learnt from the past", "#e0b04a"),
}
_RATIOS: Final = (0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Stretch:
    """A node in one phase over [start, end)."""

    node_id: str
    phase: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Busy:
    """A task instance on a node over [start, end)."""

    node_id: str
    label: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Level:
    """A quantity that holds from each instant to the next."""

    at: Sequence[datetime]
    value: Sequence[float]


def forecast_fan(
    curve: DemandCurve, zone: str, *, kind: str = "cpu", actual: Level | None = None, fmt: str = "png", title: str = ""
) -> bytes:
    """The forecast's median inside its 50, 80 and 90 % intervals, with what came true if it is known.

    Args:
        curve: the forecast. zone: of the time axis. kind: which resource.
        actual: demand as it came. fmt: "png" or "svg". title: "" = one is made.
    """
    with _drawing("fan", fmt, (9.0, 3.4)) as (figure, done):
        ax = figure.subplots()
        times = [*curve.times(), curve.end]
        for low, high, alpha in _FANS:
            a, b = (_held(curve.quantile(q, kind)) for q in (low, high))
            ax.fill_between(
                _numbers(times), a, b, step="post", color=_DEMAND, alpha=alpha, linewidth=0, label=f"{high - low:.0%}"
            )
        ax.step(_numbers(times), _held(curve.quantile(0.5, kind)), where="post", color=_DEMAND, lw=1.6, label="median")
        if actual is not None and len(actual.at):
            ax.step(_numbers(actual.at), list(actual.value), where="post", color=_ACTUAL, lw=1.6, label="as it came")
        ax.set_ylabel(f"{kind}, {UNITS[kind]}" if kind in KINDS else kind)
        ax.set_ylim(bottom=0)
        ax.set_title(title or f"Demand of pool {curve.pool}, forecast {_clock(curve.issued_at, zone)}")
        _time_axis(ax, zone, times[0], times[-1])
        _legend(ax)
    return done()


def forecast_parts(curve: DemandCurve, zone: str, *, kind: str = "cpu", fmt: str = "png", title: str = "") -> bytes:
    """Above, what the expected mean demand of each step is made of, inside the fan of that mean; below, its peak.

    Args:
        curve: the forecast. zone: of the time axis. kind: which resource. fmt: "png" or "svg". title: "" = one is made.
    """
    column = KINDS.index(kind)
    with _drawing("parts", fmt, (9.0, 5.4)) as (figure, done):
        means, peaks = figure.subplots(2, 1, sharex=True)
        times = [*curve.times(), curve.end]
        numbers, floor = _numbers(times), np.zeros(curve.steps)
        for part, (label, colour) in _PARTS.items():
            if part in curve.parts and np.any(np.asarray(curve.parts[part])[:, column] > 0):
                top = floor + np.asarray(curve.parts[part])[:, column]
                means.fill_between(numbers, _held(floor), _held(top), step="post", color=colour, lw=0, label=label)
                floor = top
        _fan(means, numbers, (curve.samples if curve.mean is None else curve.mean)[:, :, column])
        _fan(peaks, numbers, curve.samples[:, :, column])
        for ax in (means, peaks):
            ax.set_ylabel(f"{kind}, {UNITS[kind]}")
            ax.set_ylim(bottom=0)
            _legend(ax)
        means.set_title(
            title or f"What pool {curve.pool} is expected to want, forecast {_clock(curve.issued_at, zone)}"
        )
        peaks.set_title("The most within each step")
        _time_axis(peaks, zone, times[0], times[-1])
    return done()


def _fan(ax: "Axes", numbers: Any, samples: Any) -> None:
    """Median and the 50, 80 and 90 % intervals of (S, T) samples."""
    for low, high, _ in _FANS:
        a, b = (_held(row) for row in np.quantile(samples, (low, high), axis=0))
        ax.fill_between(numbers, a, b, step="post", color=_INK, alpha=0.13, lw=0, label=f"{high - low:.0%}")
    ax.step(numbers, _held(np.quantile(samples, 0.5, axis=0)), where="post", color=_INK, lw=1.4, label="median")


def plan_against_actual(snapshots: Sequence[PoolSnapshot], zone: str, *, fmt: str = "png") -> bytes:
    """Two pictures, one over the other: nodes as planned and as observed by phase; cores wanted, used and there.

    Args:
        snapshots: of one pool, by time. zone: of the time axis. fmt: "png" or "svg".
    """
    with _drawing("plan", fmt, (9.0, 5.2)) as (figure, done):
        nodes, cores = figure.subplots(2, 1, sharex=True)
        if snapshots:
            times = _numbers([s.at for s in snapshots])
            _phases(nodes, times, snapshots)
            nodes.step(
                times, [s.target for s in snapshots], where="post", color=_INK, lw=1.6, ls=(0, (4, 2)), label="plan"
            )
            _cores(cores, times, snapshots)
            _time_axis(cores, zone, snapshots[0].at, snapshots[-1].at)
        nodes.set_ylabel("nodes")
        nodes.set_title("Nodes: the plan, and what was there")
        cores.set_ylabel("cores")
        cores.set_title("Cores: what tasks held and waited for, and what was ready")
        for ax in (nodes, cores):
            ax.set_ylim(bottom=0)
            _legend(ax)
    return done()


def node_timeline(stretches: Sequence[Stretch], tasks: Sequence[Busy], zone: str, *, fmt: str = "png") -> bytes:
    """A row a node: the phases it went through, and on top of them how many tasks it ran.

    Args:
        stretches: of all nodes. tasks: what ran where. zone: of the time axis. fmt: "png" or "svg".
    """
    born: dict[str, datetime] = {}
    for s in stretches:
        born[s.node_id] = min(born.get(s.node_id, s.start), s.start)
    rows = {n: i for i, n in enumerate(sorted(born, key=lambda n: (born[n], n)))}
    with _drawing("nodes", fmt, (9.0, 1.3 + 0.34 * max(len(rows), 2))) as (figure, done):
        ax = figure.subplots()
        for s in stretches:
            colour = PHASE_COLOURS.get(s.phase, _QUIET)
            ax.broken_barh([_span(s.start, s.end)], (rows[s.node_id] - 0.4, 0.8), facecolor=colour, alpha=0.45, lw=0)
        for slot, t in _in_slots([t for t in tasks if t.node_id in rows]):
            base = rows[t.node_id] - 0.36 + 0.72 * slot
            ax.broken_barh([_span(t.start, t.end)], (base, 0.08), facecolor=_INK, alpha=0.85, lw=0)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.tick_params(axis="y", labelsize=8, length=0)
        ax.grid(visible=False, axis="y")
        ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        ax.set_title("Nodes and the tasks on them")
        if stretches:
            _time_axis(ax, zone, min(s.start for s in stretches), max(s.end for s in stretches))
        _phase_legend(ax, {s.phase for s in stretches})
    return done()


def wait_histogram(waits: Mapping[str, Sequence[float]], *, fmt: str = "png") -> bytes:
    """Provision wait of task instances: for each policy, the share that started within so many seconds.

    Args:
        waits: policy -> seconds of each instance. fmt: "png" or "svg".
    """
    with _drawing("waits", fmt, (9.0, 3.4)) as (figure, done):
        ax = figure.subplots()
        longest = max((max(w) for w in waits.values() if len(w)), default=0.0)
        right = max(longest * 1.05, 10.0)
        for i, (name, seconds) in enumerate(waits.items()):
            if not len(seconds):
                continue
            x = np.sort(np.asarray(seconds, dtype=float))
            y = np.arange(1, len(x) + 1) / len(x)
            ax.step(
                [0.0, *x, right], [0.0, *y, 1.0], where="post", lw=1.8, color=_SERIES[i % len(_SERIES)], label=name,
                ls=("-", "--", "-.", ":")[i % 4],
            )  # fmt: skip
        ax.set_xlim(0, right)
        ax.set_ylim(0, 1.03)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
        ax.set_xlabel("seconds ready, but without a node")
        ax.set_ylabel("task instances started")
        ax.set_title("Provision wait")
        _legend(ax)
    return done()


def demand_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """Loss of the joined curve and of its peers by how far ahead, and how often demand lay in the 80 % interval.

    Args:
        report: of `control.backtest_demand`. fmt: "png" or "svg".
    """
    horizons = report["horizons"]
    at = range(len(horizons))
    with _drawing("demand_backtest", fmt, (9.0, 3.6)) as (figure, done):
        loss, cover = figure.subplots(1, 2, width_ratios=(3, 2))
        names = sorted({name for h in horizons.values() for name in h["peers"]})
        for i, name in enumerate(names):
            wql = [100 * h["peers"].get(name, {}).get("wql", np.nan) for h in horizons.values()]
            style = {"ls": ("--", ":", "-.")[i % 3], "marker": "o", "ms": 3, "lw": 1.2}
            loss.plot(at, wql, color=_SERIES[i % len(_SERIES)], label=name, **style)
        loss.plot(at, [100 * h["wql"] for h in horizons.values()], color=_DEMAND, marker="o", lw=2.4, label="preprov")
        loss.set_ylabel("weighted quantile loss, % of demand")
        loss.set_ylim(bottom=0)
        loss.set_title(f"{report['trace']}, schedules {report['schedules']}")
        cover.axhline(80, color=_QUIET, lw=1, ls="--")
        cover.plot(at, [100 * h["coverage80"] for h in horizons.values()], color=_DEMAND, marker="o", lw=2.4)
        cover.set_ylim(0, 100)
        cover.set_title("Steps inside the 80 % interval, %")
        for ax in (loss, cover):
            ax.set_xticks(
                list(at), [f"{int(h) // 60} min" if int(h) < 3600 else f"{int(h) // 3600} h" for h in horizons]
            )
            ax.set_xlabel("ahead, up to")
        loss.legend(fontsize=8, ncols=2)
    return done()


def forecast_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """A row a series: the weighted quantile loss of every peer over ours, and how often we covered what came.

    Args:
        report: of `control.backtest_forecast`. fmt: "png" or "svg".
    """
    rows = report["series"]
    at = range(len(rows))
    with _drawing("forecast_backtest", fmt, (11.0, 2.2 + 0.32 * len(rows))) as (figure, done):
        loss, cover = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        for i, peer in enumerate(sorted({peer for row in rows.values() for peer in row["peers"]})):
            ratio = [_over(row["peers"].get(peer, {}).get("wql"), row["wql"]) for row in rows.values()]
            mark = "osD^v"[i // len(_SERIES) % 5]
            shown = np.clip(ratio, _RATIOS[0], _RATIOS[-1])
            loss.scatter(shown, at, s=26, marker=mark, color=_SERIES[i % len(_SERIES)], label=peer, alpha=0.85)
        loss.axvline(1.0, color=_INK, lw=1.4)
        loss.set_xscale("log")
        loss.set_xticks(_RATIOS, [f"{r:g}" for r in _RATIOS[:-1]] + [f"{_RATIOS[-1]:g} or more"])
        loss.minorticks_off()
        loss.set_yticks(list(at), list(rows))
        loss.invert_yaxis()
        loss.set_title("Loss of each peer over ours: left of the line it is better")
        cover.axvspan(72, 88, color=_QUIET, alpha=0.15, lw=0)
        cover.axvline(80, color=_QUIET, lw=1, ls="--")
        cover.scatter([_percent(row["coverage80"]) for row in rows.values()], at, color=_DEMAND, s=26)
        cover.set_xlim(40, 100)
        cover.set_title("In our 80 % interval, %")
        if loss.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    return done()


def frontiers(
    policies: Mapping[str, Sequence[Mapping[str, Any]]],
    bound: Sequence[Mapping[str, float]] = (),
    *,
    fmt: str = "png",
    title: str = "Cost against provision wait",
) -> bytes:
    """Cost against mean provision wait, a line a policy through its settings; below, what nobody can pay less than.

    Args:
        policies: policy -> rows with wait_mean_s and cost_usd. bound: rows mean_wait_s, cost_usd.
        fmt: "png" or "svg". title: of the picture.
    """
    with _drawing("frontiers", fmt, (9.0, 4.6)) as (figure, done):
        ax = figure.subplots()
        for i, (name, rows) in enumerate(policies.items()):
            known = [r for r in rows if r["cost_usd"] is not None and r["wait_mean_s"] is not None]
            at = sorted((float(r["wait_mean_s"]), float(r["cost_usd"])) for r in known)
            if at:
                ours = name == "preprov"
                ax.plot(
                    *zip(*at, strict=True), marker="o", ms=5 if ours else 3.5, lw=2.4 if ours else 1.2, label=name,
                    color=_SERIES[i % len(_SERIES)], ls=("-", "--", "-.", ":")[i // len(_SERIES) % 4],
                    zorder=3 if ours else 2,
                )  # fmt: skip
        if bound:
            x, y = [b["mean_wait_s"] for b in bound], [b["cost_usd"] for b in bound]
            ax.fill_between(x, 0, y, color=_QUIET, alpha=0.18, lw=0, label="below the bound")
        waits = [float(r["wait_mean_s"]) for rows in policies.values() for r in rows if r["wait_mean_s"] is not None]
        ax.set_xlim(0, max(waits, default=1.0) * 1.04 + 1e-3)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("mean provision wait, s")
        ax.set_ylabel("cost, USD")
        ax.set_title(title)
        _legend(ax)
    return done()


def nodes_over_time(
    at: Sequence[datetime], counts: Mapping[str, Sequence[float]], zone: str, *, fmt: str = "png", title: str = "Nodes"
) -> bytes:
    """Nodes stacked by phase, from each instant on.

    Args:
        at: instants. counts: phase -> nodes. zone: of the time axis. fmt: "png" or "svg". title: of the picture.
    """
    with _drawing("nodes-over-time", fmt, (9.0, 3.2)) as (figure, done):
        ax = figure.subplots()
        floor = np.zeros(len(at))
        for phase, colour in PHASE_COLOURS.items():
            if str(phase) in counts:
                top = floor + np.asarray(counts[str(phase)], dtype=float)
                ax.fill_between(_numbers(at), floor, top, step="post", color=colour, alpha=0.8, lw=0, label=str(phase))
                floor = top
        if len(at):
            _time_axis(ax, zone, at[0], at[-1])
        ax.set_ylim(bottom=0)
        ax.set_ylabel("nodes")
        ax.set_title(title)
        _legend(ax)
    return done()


# --------------------------------------------------------------------------- parts


def _over(theirs: float | None, ours: float | None) -> float:
    return theirs / ours if theirs and ours else float("nan")


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def _phases(ax: "Axes", times: Any, snapshots: Sequence[PoolSnapshot]) -> None:
    """Nodes stacked by phase, those that serve at the bottom."""
    floor = np.zeros(len(snapshots))
    for phase, colour in PHASE_COLOURS.items():
        count = np.array([sum(g.get(str(phase), 0) for g in s.nodes.values()) for s in snapshots], dtype=float)
        if count.any():
            top = floor + count
            ax.fill_between(times, floor, top, step="post", color=colour, alpha=0.75, lw=0, label=str(phase))
            floor = top


def _cores(ax: "Axes", times: Any, snapshots: Sequence[PoolSnapshot]) -> None:
    used = np.array([s.used.cpu for s in snapshots])
    waiting = np.array([s.waiting.cpu for s in snapshots])
    ready = PHASE_COLOURS[Phase.READY]
    ax.fill_between(times, 0, used, step="post", color=_DEMAND, alpha=0.55, lw=0, label="held by tasks")
    if waiting.any():
        ax.fill_between(times, used, used + waiting, step="post", color=_ACTUAL, alpha=0.7, lw=0, label="waiting")
    ax.step(times, [s.allocatable.cpu for s in snapshots], where="post", color=ready, lw=1.6, label="ready")


def _in_slots(tasks: Sequence[Busy]) -> Iterator[tuple[float, Busy]]:
    """Each task with the height (0 to 1) at which it is drawn on its node, so that none covers another."""
    free_at: dict[str, list[datetime]] = {}
    placed: list[tuple[int, Busy]] = []
    for t in sorted(tasks, key=lambda t: (t.start, t.label)):
        lanes = free_at.setdefault(t.node_id, [])
        lane = next((i for i, end in enumerate(lanes) if end <= t.start), len(lanes))
        if lane == len(lanes):
            lanes.append(t.end)
        lanes[lane] = t.end
        placed.append((lane, t))
    for lane, t in placed:
        yield lane / max(len(free_at[t.node_id]), 8), t


def _phase_legend(ax: "Axes", phases: set[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=c, alpha=0.5, label=str(p)) for p, c in PHASE_COLOURS.items() if p in phases]
    handles.append(Patch(color=_INK, alpha=0.85, label="task"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def _legend(ax: "Axes") -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def _time_axis(ax: "Axes", zone: str, start: datetime, end: datetime) -> None:
    from matplotlib import dates

    drawn: Any = dates  # matplotlib's dates are not typed
    tz = ZoneInfo(zone)
    ax.xaxis.set_major_locator(drawn.AutoDateLocator(tz=tz, minticks=4, maxticks=10))
    days = end - start > timedelta(days=2)
    ax.xaxis.set_major_formatter(drawn.DateFormatter("%d %b" if days else "%H:%M", tz=tz))
    left, right = _numbers([start, end])
    ax.set_xlim(left, max(right, left + 1 / 1440))
    ax.set_xlabel(f"{start.astimezone(tz):%A %d %B %Y}{' and after' if days else ''}, {zone}")


def _clock(at: datetime, zone: str) -> str:
    return f"{at.astimezone(ZoneInfo(zone)):%d %b %H:%M}"


def _held(values: Any) -> list[float]:
    """Values with the last one repeated, so that the last step has its length."""
    return [*map(float, values), float(values[-1])]


def _numbers(times: Sequence[datetime]) -> Any:
    from matplotlib import dates

    drawn: Any = dates
    return drawn.date2num(list(times))


def _span(start: datetime, end: datetime) -> tuple[float, float]:
    a, b = _numbers([start, end])
    return a, b - a


@contextmanager
def _drawing(name: str, fmt: str, size: tuple[float, float]) -> "Iterator[tuple[Figure, Callable[[], bytes]]]":
    """A figure, and a function that returns its bytes once the `with` is left.

    No figure is registered anywhere, so that pictures can be made in any thread; the same content gives the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(cast("Any", {**_STYLE, "svg.hashsalt": name})):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, out.getvalue
        figure.savefig(out, format=fmt, dpi=110, metadata=_NO_METADATA if fmt == "svg" else None)
