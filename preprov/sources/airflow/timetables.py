"""Timetables as the API tells them, into schedules: it names one next run, and the horizon has many."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo

from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.sources.airflow.clocks import reads_in
from preprov.sources.airflow.facts import DagFacts
from preprov.sources.airflow.shapes import DagShape

AHEAD: Final = timedelta(days=15)
"""How far turns are worked out one by one."""
_MOST_TURNS: Final = 2_000
_UNITS: Final = frozenset({"years", "months", "weeks", "days", "hours", "minutes", "seconds"})
_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NO_RULE: Final = frozenset({"@once", "@continuous"})
"""These may name a next run, and no other follows from a rule."""
_QUARTERLY: Final = "0 0 1 */3 *"
_FIELD: Final = r"[\w*/,\-?#]+"
_CRON: Final = re.compile(rf"{_FIELD}(?:\s+{_FIELD}){{4}}")
_RELATIVE: Final = re.compile(r"relativedelta\((\w+=[+-]?\d+(?:, \w+=[+-]?\d+)*)\)")
_STEP: Final = re.compile(r"(\w+)=([+-]?\d+)")
_EITHER: Final = re.compile(r"^(?:Asset|Dataset) or ")  # on a schedule, and whenever an asset changes
_DELTA: Final = re.compile(r"(?:(?P<days>-?\d+) days?, )?(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class Timetable:
    """One of: a cron, several crons, a distance in seconds, calendar steps (months, …), or nothing that is known."""

    crons: tuple[str, ...] = ()
    every_s: float | None = None
    steps: tuple[tuple[str, int], ...] = ()

    @property
    def plain_crons(self) -> tuple[str, ...]:
        """Its crons, five fields each."""
        return tuple(_ALIASES.get(c, c) for c in self.crons)

    @property
    def key(self) -> str:
        """What it says, to see it change."""
        return repr((self.crons, self.every_s, self.steps))


def parse(told: Any) -> Timetable:
    """From API v1's schedule interval (an object) or API v2's summary (a text)."""
    if isinstance(told, Mapping):
        return _from_object(told)
    text = _EITHER.sub("", str(told or "").strip())
    if steps := _RELATIVE.fullmatch(text):
        return Timetable(steps=tuple((n, int(v)) for n, v in _STEP.findall(steps[1])))
    if delta := _DELTA.fullmatch(text):
        days, h, m, s = (float(delta[k] or 0) for k in ("days", "h", "m", "s"))
        seconds = ((days * 24 + h) * 60 + m) * 60 + s
        return Timetable(every_s=seconds) if seconds >= 1 else Timetable()
    parts = [cron for cron in (_cron(p) for p in re.split(r",\s+", text)) if cron]
    return Timetable(crons=tuple(parts)) if parts and len(parts) == len(re.split(r",\s+", text)) else Timetable()


def is_own(told: Any) -> bool:
    """Whether turns beyond the next are known to its own code alone, as far as can be seen."""
    text = str((told.get("value") if isinstance(told, Mapping) else told) or "").strip()
    return text not in _NO_RULE and parse(told) == Timetable()


def _from_object(told: Mapping[str, Any]) -> Timetable:
    kind = told.get("__type")
    if kind == "CronExpression":
        cron = _cron(str(told.get("value") or ""))
        return Timetable(crons=(cron,)) if cron else Timetable()
    if kind == "TimeDelta":
        seconds = float(told.get("days") or 0) * 86400 + float(told.get("seconds") or 0)
        return Timetable(every_s=seconds) if seconds >= 1 else Timetable()
    if kind == "RelativeDelta":
        names = ("years", "months", "days", "leapdays", "hours", "minutes", "seconds")
        return Timetable(steps=tuple((n, int(told[n])) for n in names if told.get(n)))
    return Timetable()


def _cron(text: str) -> str:
    """A cron of five fields, "" if it is none."""
    from cronsim import CronSim, CronSimError

    text = _QUARTERLY if text == "@quarterly" else text.strip()
    if text in _ALIASES:
        return text
    if not _CRON.fullmatch(text):
        return ""
    try:
        CronSim(text, datetime(2025, 1, 1, tzinfo=UTC))
    except CronSimError:
        return ""
    return text


def schedule(
    dag: DagFacts, shape: DagShape | None, exported: Sequence[datetime], now: datetime, tenant: str, shift_s: float
) -> Schedule:
    """What is declared of a DAG; one without any turn to come still says how many of its runs may be active.

    Args:
        shape: None = its zone is not known yet; then only the next run is.
        exported: turns that its own Airflow worked out and published (see the provider).
        now: ours.
        shift_s: added to Airflow's times, to have ours.
    """
    table, zone = parse(dag.timetable), reads_in(shape)
    cron, every, anchor = "", None, None
    turns = tuple(exported)
    if not exported:
        rule = _Rule(table, zone, _next_run(dag), _last(dag, shape), now - timedelta(seconds=shift_s))
        if rule.bounded:
            turns = rule.turns()
        elif len(table.crons) == 1 and zone:
            cron = table.crons[0]
        else:
            every, anchor = table.every_s, _anchor(rule.next_run, table.every_s)
    return Schedule(
        dag_id=dag.dag_id,
        pool="",
        cron=cron,
        zone=zone or "UTC",
        tenant=tenant,
        since=None if shape is None or shape.since != shape.since else from_epoch(shape.since),
        paused=dag.paused,
        max_active_runs=dag.max_active_runs,
        every_s=every,
        anchor=anchor,
        turns=tuple(t + timedelta(seconds=shift_s) for t in turns),
    )


def _next_run(dag: DagFacts) -> datetime | None:
    return None if dag.next_run != dag.next_run else from_epoch(dag.next_run)


def _last(dag: DagFacts, shape: DagShape | None) -> datetime | None:
    """No run is made after this instant; None = they go on."""
    return None if shape is None or shape.ends != shape.ends else from_epoch(shape.ends + dag.lag_s)


def _anchor(turn: datetime | None, every_s: float | None) -> datetime | None:
    """The same instant for all turns of a series."""
    return from_epoch(turn.timestamp() % every_s) if turn and every_s else None


@dataclass(frozen=True)
class _Rule:
    """A timetable with what Airflow says beside it; all by its clock.

    Attributes:
        zone: "" = none that is known. next_run: None = none, or nobody knows yet. last: no run after this.
    """

    table: Timetable
    zone: str
    next_run: datetime | None
    last: datetime | None
    now: datetime

    @property
    def bounded(self) -> bool:
        """Whether its turns have to be named one by one: they begin late, end soon, or follow from no one rule."""
        one = (len(self.table.crons) == 1 and self.zone) or (self.table.every_s and self.next_run)
        return not one or self._ends_soon or self._first is not None

    def turns(self) -> tuple[datetime, ...]:
        """From the beginning of the day on, so that the list changes once a day; none before the next run."""
        day = self.now.astimezone(ZoneInfo(self.zone or "UTC")).replace(hour=0, minute=0, second=0, microsecond=0)
        first = self._first or day
        found = [t for t in self._some(day, max(first, day)) if t >= first and (self.last is None or t <= self.last)]
        return tuple(sorted(set(found)))[:_MOST_TURNS]

    @property
    def _ends_soon(self) -> bool:
        return self.last is not None and self.last < self.now + AHEAD

    @property
    def _first(self) -> datetime | None:
        """The next run, where its rule has turns between now and then that will not be."""
        if self.next_run is None or self.next_run <= self.now or (self.last and self.last < self.now):
            return None
        if self.table.every_s:
            return self.next_run if self.next_run - self.now > timedelta(seconds=self.table.every_s) else None
        between = (t for c in self._crons for t in islice(_walk(c, self.now, self.next_run, self.zone), 1))
        return self.next_run if any(t < self.next_run for t in between) else None

    @property
    def _crons(self) -> tuple[str, ...]:
        return self.table.plain_crons if self.zone else ()

    def _some(self, day: datetime, first: datetime) -> Iterator[datetime]:
        """Turns from `first` on, those of the rule and the next run itself."""
        until = day + AHEAD
        if self._first:
            yield self._first
        if self._crons:
            for cron in self._crons:
                yield from islice(_walk(cron, first - timedelta(seconds=1), until, self.zone), _MOST_TURNS)
        elif self.table.every_s and self.next_run:
            step = timedelta(seconds=self.table.every_s)
            evenly = (self.next_run + k * step for k in count(-((self.next_run - first) // step)))
            yield from islice(takewhile(lambda t: t <= until, evenly), _MOST_TURNS)
        elif self.next_run and (self.last is None or self.last >= self.now):
            yield from _stepping(self.next_run, self.table.steps, self.now)


def _walk(cron: str, after: datetime, until: datetime, zone: str) -> Iterator[datetime]:
    """Turns of a cron (five fields) later than `after`, up to `until`, in UTC."""
    from cronsim import CronSim

    for turn in CronSim(cron, after.astimezone(ZoneInfo(zone))):
        if turn > until:
            return
        yield turn.astimezone(UTC)


def _stepping(first: datetime, steps: Sequence[tuple[str, int]], now: datetime) -> tuple[datetime, ...]:
    """The next run, and those that follow it by calendar steps."""
    import pendulum

    known = [(n, v) for n, v in steps if n in _UNITS]
    if not known:
        return (first,)
    out = [first]
    while len(out) < _MOST_TURNS:
        further: Any = {n: v * len(out) for n, v in known}
        turn = from_epoch(pendulum.instance(first).add(**further).timestamp())
        if turn <= out[-1] or turn > now + AHEAD:
            break
        out.append(turn)
    return tuple(out)
