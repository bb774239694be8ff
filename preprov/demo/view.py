"""The live view: what is due, the nodes and the tasks on them, the money; plain lines off a terminal."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from preprov.demo.live import Play
from preprov.demo.recorder import Instance
from preprov.model.nodes import Node, Phase
from preprov.model.plans import ActionRecord
from preprov.model.resources import ZERO, Resources

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_STYLES: Final = {
    Phase.READY: "green",
    Phase.WARMING: "yellow",
    Phase.DRAINING: "dark_orange",
    Phase.HIBERNATED: "blue",
    Phase.STOPPED: "bright_black",
    Phase.FAILED: "red",
    Phase.LOST: "magenta",
}
_BAR: Final = 16
_WAVES: Final = 10
_ACTIONS: Final = 5
_LINE_EVERY: Final = timedelta(minutes=2)


class LinesView:
    """For pipes and logs: a line for each action and, every two minutes of the night, one on how things stand."""

    def __init__(self, say: Callable[[str], None], zone: str) -> None:
        self._say, self._zone = say, ZoneInfo(zone)
        self._told, self._next = 0, datetime.min.replace(tzinfo=self._zone)

    def __enter__(self) -> "LinesView":
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, play: Play) -> None:
        """Say what is new."""
        for r in play.recorder.records[self._told :]:
            self._say(f"  {r.at.astimezone(self._zone):%H:%M:%S}  {r.action.reason}")
            self._told += 1
        now = play.ctx.clock.now()
        if now >= self._next and play.recorder.latest is not None:
            self._say(f"  {now.astimezone(self._zone):%H:%M:%S}  {standing(play, now)}")
            self._next = now + _LINE_EVERY


def standing(play: Play, now: datetime) -> str:
    """How things stand, in a line."""
    latest = play.recorder.latest
    phases = Counter(str(n.phase) for n in latest.observation.nodes) if latest else Counter[str]()
    nodes = ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items())) or "none"
    running, waiting, done = counts(play)
    bill = play.recorder.bill(play.pool, play.start, max(now, play.start))
    money = f"{bill.usd:.2f} USD" if bill.usd is not None else f"{bill.node_hours:.1f} node-hours"
    return f"nodes: {nodes}; tasks: {running} running, {waiting} waiting, {done} done; {money}"


def counts(play: Play) -> tuple[int, int, int]:
    """Task instances (running, waiting for a node, done)."""
    instances = play.recorder.instances()
    done = sum(1 for i in instances if i.ended is not None)
    latest = play.recorder.latest
    waiting = latest.dispatched.waiting_tasks if latest and latest.dispatched else 0
    return len(instances) - done, waiting, done


class ScreenView:
    """For a terminal: one screen that is drawn again and again."""

    def __init__(self, console: "Console", zone: str) -> None:
        from rich.live import Live

        self._zone = ZoneInfo(zone)
        self._live: AbstractContextManager[Any] = Live(console=console, refresh_per_second=8, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> "ScreenView":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, play: Play) -> None:
        """Draw, at most four times a second."""
        if time.monotonic() - self._drawn < 0.25:
            return
        self._drawn = time.monotonic()
        self._live.update(self.screen(play, play.ctx.clock.now()))  # type: ignore[attr-defined]

    def screen(self, play: Play, now: datetime) -> "RenderableType":
        """The whole screen."""
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel

        instances = play.recorder.instances()
        left = Panel(self._waves(play, instances, now), title="due", title_align="left", border_style="bright_black")
        right = Panel(self._nodes(play, instances, now), title="nodes", title_align="left", border_style="bright_black")
        did = Panel(
            self._actions(play.recorder.records), title="what was done, and why", title_align="left",
            border_style="bright_black",
        )  # fmt: skip
        return Group(self._head(play, now), Columns([left, right], padding=(0, 1)), did)

    def _head(self, play: Play, now: datetime) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        share = (now - play.start) / (play.end - play.start)
        filled = round(min(max(share, 0.0), 1.0) * 24)
        speed = float(getattr(play.ctx.clock, "speed", 1.0))
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        clock = Text.assemble(
            (f" {now.astimezone(self._zone):%a %d %b  %H:%M:%S} ", "bold reverse"),
            (f"  {'━' * filled}", "cyan"),
            (f"{'━' * (24 - filled)}", "bright_black"),
            (f"  {speed:g} x", "bright_black"),
        )
        head.add_row(clock, Text(standing(play, now).split("; ", 1)[1]))
        return head

    def _waves(self, play: Play, instances: Sequence[Instance], now: datetime) -> "Table":
        from rich.table import Table
        from rich.text import Text

        out = Table.grid(padding=(0, 1))
        begun = Counter(i.claimant.split("/", 1)[0].rpartition(".")[0] for i in instances)
        done = Counter(i.claimant.split("/", 1)[0].rpartition(".")[0] for i in instances if i.ended is not None)
        for run in play.tonight[:_WAVES]:
            at = run.scheduled_for or run.submit
            total = sum(t.copies for t in run.shape.tasks)
            if done[run.run_id] >= total:
                state = Text("done", "green")
            elif begun[run.run_id]:
                state = Text(f"{done[run.run_id]}/{total}", "cyan")
            elif at > now:
                left = int((at - now).total_seconds())
                state = Text(f"in {left // 60}:{left % 60:02d}", "yellow" if left < 180 else "bright_black")
            else:
                state = Text("ready", "red")
            out.add_row(f"{at.astimezone(self._zone):%H:%M}", run.shape.dag_id, state)
        return out

    def _nodes(self, play: Play, instances: Sequence[Instance], now: datetime) -> "Table":
        from rich.table import Table
        from rich.text import Text

        out = Table.grid(padding=(0, 1))
        latest = play.recorder.latest
        nodes = latest.observation.nodes if latest else ()
        used: dict[str, Resources] = {}
        for i in instances:
            if i.ended is None and i.node_id:
                used[i.node_id] = used.get(i.node_id, ZERO) + i.request
        for n in sorted(nodes, key=lambda n: (n.created_at, n.node_id)):
            style = _STYLES.get(n.phase, "")
            held = used.get(n.node_id, ZERO).cpu
            what = self._what(n, held, now)
            out.add_row(n.node_id[-6:], Text(str(n.phase), style), self._bar(n, held, style), what)
        if not nodes:
            out.add_row(Text("none: the pool is at zero", "bright_black"))
        return out

    def _what(self, n: Node, held: float, now: datetime) -> str:
        if n.phase is Phase.WARMING:
            return f"{max(int((now - n.since).total_seconds()), 0)} s"
        return f"{held:g} of {n.offering.allocatable.cpu:g} cores" if held else ""

    def _bar(self, n: Node, held: float, style: str) -> "RenderableType":
        from rich.text import Text

        if n.phase is Phase.WARMING:
            filled = round((n.progress or 0.0) * _BAR)
            return Text.assemble(("▒" * filled, style), ("·" * (_BAR - filled), "bright_black"))
        filled = round(min(held / n.offering.allocatable.cpu, 1.0) * _BAR)
        return Text.assemble(("█" * filled, style), ("·" * (_BAR - filled), "bright_black"))

    def _actions(self, records: Sequence[ActionRecord]) -> "RenderableType":
        from rich.text import Text

        lines = [
            Text.assemble((f"{r.at.astimezone(self._zone):%H:%M:%S} ", "bright_black"), r.action.reason)
            for r in records[-_ACTIONS:]
        ]
        return Text("\n").join(lines) if lines else Text("nothing yet", "bright_black")
