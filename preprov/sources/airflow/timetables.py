"""Timetables as the API tells them, into schedules: it names one next run, and the horizon has many."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.sources.airflow.facts import DagFacts
from preprov.sources.airflow.shapes import DagShape

AHEAD: Final = timedelta(days=15)
"""How far turns are worked out one by one."""
_MOST_TURNS: Final = 2_000
_UNITS: Final = frozenset({"years", "months", "weeks", "days", "hours", "minutes", "seconds"})
_ALIASES: Final = frozenset({"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"})
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


@lru_cache(maxsize=256)
def known_zone(name: str) -> str:
    """An IANA zone as Airflow names it; UTC where it names none that exists."""
    return name if name in available_timezones() else "UTC"


def schedule(
    dag: DagFacts, shape: DagShape | None, exported: Sequence[datetime], now: datetime, tenant: str, shift_s: float
) -> Schedule:
    """What is declared of a DAG; one without any turn to come still says how many of its runs may be active.

    Args:
        shape: None = its zone is not known yet; then only the next run is.
        exported: turns that its own Airflow worked out and published (see the provider).
        now: ours.
    """
    zone = known_zone(shape.zone) if shape else "UTC"
    table = parse(dag.timetable)
    ended = shape is not None and shape.ends == shape.ends and from_epoch(shape.ends) < now
    cron, every, anchor, turns = "", None, None, tuple(exported)
    next_run = None if dag.next_run != dag.next_run else from_epoch(dag.next_run)
    if ended:
        turns = ()
    elif exported:
        pass
    elif shape is not None and len(table.crons) == 1:
        cron = table.crons[0]
    elif shape is not None and table.crons:
        turns = _several(table.crons, zone, now)
    elif table.every_s and next_run:
        every, anchor = table.every_s, _anchor(next_run, table.every_s)
    elif next_run:
        turns = _stepping(next_run, table.steps, now)
    return Schedule(
        dag_id=dag.dag_id,
        pool="",
        cron=cron,
        zone=zone,
        tenant=tenant,
        since=None if shape is None or shape.since != shape.since else from_epoch(shape.since),
        paused=dag.paused,
        max_active_runs=dag.max_active_runs,
        every_s=every,
        anchor=anchor,
        turns=tuple(t + timedelta(seconds=shift_s) for t in turns),
    )


def _anchor(turn: datetime, every_s: float) -> datetime:
    """The same instant for all turns of a series."""
    return from_epoch(turn.timestamp() % every_s)


def _several(crons: Sequence[str], zone: str, now: datetime) -> tuple[datetime, ...]:
    """All turns of several crons from the beginning of the day on, so that the list changes once a day."""
    from cronsim import CronSim

    local = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    found: set[datetime] = set()
    for cron in crons:
        for turn in CronSim(cron, local - timedelta(seconds=1)):
            if turn > local + AHEAD or len(found) >= _MOST_TURNS:
                break
            found.add(turn.astimezone(UTC))
    return tuple(sorted(found))


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
