"""Pictures of nodes: planned and there, by phase, and what ran on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from preprov.contracts import PoolSnapshot
from preprov.figures.canvas import ACTUAL, DEMAND, INK, QUIET, drawing, legend, numbers, span, time_axis
from preprov.model.nodes import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes


PHASE_COLOURS: Final[Mapping[str, str]] = {
    Phase.READY: "#2a8c6a",
    Phase.WARMING: "#f2b13c",
    Phase.DRAINING: "#c9824a",
    Phase.HIBERNATED: "#8fa3c8",
    Phase.STOPPED: "#c3cad6",
    Phase.FAILED: "#c0392b",
    Phase.LOST: "#7d3c98",
}


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


def plan_against_actual(snapshots: Sequence[PoolSnapshot], zone: str, *, fmt: str = "png") -> bytes:
    """Two pictures, one over the other: nodes as planned and as observed by phase; cores wanted, used and there.

    Args:
        snapshots: of one pool, by time. zone: of the time axis. fmt: "png" or "svg".
    """
    with drawing("plan", fmt, (9.0, 5.2)) as (figure, done):
        nodes, cores = figure.subplots(2, 1, sharex=True)
        if snapshots:
            times = numbers([s.at for s in snapshots])
            _phases(nodes, times, snapshots)
            nodes.step(
                times, [s.target for s in snapshots], where="post", color=INK, lw=1.6, ls=(0, (4, 2)), label="plan"
            )
            _cores(cores, times, snapshots)
            time_axis(cores, zone, snapshots[0].at, snapshots[-1].at)
        nodes.set_ylabel("nodes")
        nodes.set_title("Nodes: the plan, and what was there")
        cores.set_ylabel("cores")
        cores.set_title("Cores: what tasks held and waited for, and what was ready")
        for ax in (nodes, cores):
            ax.set_ylim(bottom=0)
            legend(ax)
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
    with drawing("nodes", fmt, (9.0, 1.3 + 0.34 * max(len(rows), 2))) as (figure, done):
        ax = figure.subplots()
        for s in stretches:
            colour = PHASE_COLOURS.get(s.phase, QUIET)
            ax.broken_barh([span(s.start, s.end)], (rows[s.node_id] - 0.4, 0.8), facecolor=colour, alpha=0.45, lw=0)
        for slot, t in _in_slots([t for t in tasks if t.node_id in rows]):
            base = rows[t.node_id] - 0.36 + 0.72 * slot
            ax.broken_barh([span(t.start, t.end)], (base, 0.08), facecolor=INK, alpha=0.85, lw=0)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.tick_params(axis="y", labelsize=8, length=0)
        ax.grid(visible=False, axis="y")
        ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        ax.set_title("Nodes and the tasks on them")
        if stretches:
            time_axis(ax, zone, min(s.start for s in stretches), max(s.end for s in stretches))
        _phase_legend(ax, {s.phase for s in stretches})
    return done()


def nodes_over_time(
    at: Sequence[datetime], counts: Mapping[str, Sequence[float]], zone: str, *, fmt: str = "png", title: str = "Nodes"
) -> bytes:
    """Nodes stacked by phase, from each instant on.

    Args:
        at: instants. counts: phase -> nodes. zone: of the time axis. fmt: "png" or "svg". title: of the picture.
    """
    with drawing("nodes-over-time", fmt, (9.0, 3.2)) as (figure, done):
        ax = figure.subplots()
        floor = np.zeros(len(at))
        for phase, colour in PHASE_COLOURS.items():
            if str(phase) in counts:
                top = floor + np.asarray(counts[str(phase)], dtype=float)
                ax.fill_between(numbers(at), floor, top, step="post", color=colour, alpha=0.8, lw=0, label=str(phase))
                floor = top
        if len(at):
            time_axis(ax, zone, at[0], at[-1])
        ax.set_ylim(bottom=0)
        ax.set_ylabel("nodes")
        ax.set_title(title)
        legend(ax)
    return done()


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
    ax.fill_between(times, 0, used, step="post", color=DEMAND, alpha=0.55, lw=0, label="held by tasks")
    if waiting.any():
        ax.fill_between(times, used, used + waiting, step="post", color=ACTUAL, alpha=0.7, lw=0, label="waiting")
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
    handles.append(Patch(color=INK, alpha=0.85, label="task"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
