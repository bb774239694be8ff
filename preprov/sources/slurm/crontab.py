"""What is submitted by the clock: lines of crontabs and of Slurm's own scrontabs that call sbatch.

MAILTO=ops
30 2 * * 1-5  etl  sbatch --job-name=nightly --partition=batch /opt/etl/nightly.sh
#SCRON --job-name=rollup
0 */4 * * * /opt/etl/rollup.sh
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from preprov.contracts import Reject
from preprov.model.time import from_epoch
from preprov.model.work import Schedule
from preprov.slurm.naming import dag_of

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_OPTIONS: Final = {"--job-name": "name", "-J": "name", "--partition": "partition", "-p": "partition"}
_BACK: Final = timedelta(days=8)
_AHEAD: Final = timedelta(days=3)
_EARLY_S: Final = 60.0
_LATE_S: Final = 1800.0


@dataclass(frozen=True)
class CronLine:
    """One line that submits a job.

    Attributes:
        name, user: as Slurm will call it and its owner. zone: of its times.
    """

    cron: str
    name: str
    user: str
    partition: str
    zone: str

    @property
    def dag(self) -> str:
        """As of its runs."""
        return dag_of(self.user, self.name)


def cron_lines(text: str, *, user: str, zone: str, system: bool) -> Iterator[CronLine | Reject]:
    """Lines of a crontab that submit a job; what cannot be understood is rejected, all else is left out.

    Args:
        user: whose it is, where a line does not name one. zone: of its times, unless CRON_TZ says otherwise.
        system: lines name a user after the five fields, as in /etc/crontab and /etc/cron.d.
    """
    scron: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("#SCRON"):
            scron += shlex.split(line.removeprefix("#SCRON"), comments=False)
            continue
        if not line or line.startswith("#"):
            continue
        variable = _VARIABLE.fullmatch(line)
        if variable is not None:
            zone = variable[2].strip("'\" ") if variable[1] == "CRON_TZ" else zone
            continue
        options, scron = scron, []
        try:
            found = _line(line, options, user=user, zone=zone, system=system)
        except (ValueError, CronSimError, ZoneInfoNotFoundError, IsADirectoryError) as e:
            yield Reject(number, f"no line of a crontab: {e}", line[:200])
            continue
        if found is not None:
            yield found


def _line(line: str, scron: Sequence[str], *, user: str, zone: str, system: bool) -> CronLine | None:
    fields = line.split()
    head = 1 if fields[0].startswith("@") else 5
    if fields[0] == "@reboot":
        return None
    cron = _ALIASES[fields[0]] if fields[0] in _ALIASES else " ".join(fields[:head])
    rest = fields[head:]
    if system and rest:
        user, rest = rest[0], rest[1:]
    words = shlex.split(" ".join(rest))
    own = bool(scron) or not any(_is_sbatch(w) for w in words)
    if own and not scron:
        return None
    ZoneInfo(zone)
    CronSim(cron, datetime(2025, 1, 1))  # noqa: DTZ001 - only whether it can be read
    after = words if own else words[next(i for i, w in enumerate(words) if _is_sbatch(w)) + 1 :]
    said, script = _options(scron if own else after)
    name = said.get("name") or Path((words[0] if own else script) or "sbatch").name
    return CronLine(cron, name, user, said.get("partition", ""), zone)


def _is_sbatch(word: str) -> bool:
    return Path(word).name == "sbatch"


def _options(words: Sequence[str]) -> tuple[dict[str, str], str]:
    """(what we want to know of its options, its script)."""
    out: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in _OPTIONS and (equals or rest):
            out[_OPTIONS[key]] = value if equals else rest.pop(0)
        elif word[:2] in _OPTIONS and len(word) > 2:
            out[_OPTIONS[word[:2]]] = word[2:]
        elif not word.startswith("-"):
            return out, word
    return out, ""


class CronTurns:
    """The lines of all crontabs, by DAG.

    Args:
        lines: of all of them.
        second_s: how long a wall second is on the clock: Slurm tells whole ones, so that what was submitted at a turn
            may seem to have come before it.
    """

    def __init__(self, lines: Sequence[CronLine] = (), *, second_s: float = 1.0) -> None:
        self._early_s = _EARLY_S + 2.0 * second_s
        self._lines: dict[str, list[CronLine]] = {}
        for line in lines:
            self._lines.setdefault(line.dag, []).append(line)

    def schedules(self, tenant: str, now: datetime) -> tuple[Schedule, ...]:
        """One for each DAG; where several lines submit it, by the turns of these days one by one."""
        out = []
        for dag, lines in self._lines.items():
            one = Schedule(dag, "", lines[0].cron, lines[0].zone, tenant=tenant)
            out.append(one if len(lines) == 1 else replace(one, cron="", turns=_turns(lines, now)))
        return tuple(out)

    def queues(self) -> Mapping[str, tuple[str, ...]]:
        """DAG -> partitions."""
        return {dag: tuple(sorted({line.partition for line in lines})) for dag, lines in self._lines.items()}

    def cron_of(self, dag: str) -> str:
        """Of a DAG with one line; "" otherwise."""
        lines = self._lines.get(dag, ())
        return lines[0].cron if len(lines) == 1 else ""

    def turn_of(self, dag: str, submit: float) -> float | None:
        """The turn (epoch seconds) that a run submitted then belongs to; None if it was submitted besides."""
        found = [t for line in self._lines.get(dag, ()) if (t := _last(line, submit + self._early_s)) is not None]
        if not found or submit - max(found) > _LATE_S + self._early_s:
            return None
        return max(found)


def _turns(lines: Sequence[CronLine], now: datetime) -> tuple[datetime, ...]:
    """Of these days, whole days of UTC, so that the answer is the same all day."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    out = set()
    for line in lines:
        for turn in CronSim(line.cron, (today - _BACK).astimezone(ZoneInfo(line.zone))):
            if turn >= today + _AHEAD:
                break
            out.add(turn.astimezone(now.tzinfo))
    return tuple(sorted(out))


def _last(line: CronLine, at: float) -> float | None:
    """The last turn before `at`."""
    local = from_epoch(at).astimezone(ZoneInfo(line.zone))
    try:
        return float(next(CronSim(line.cron, local, reverse=True)).timestamp())
    except (StopIteration, CronSimError):
        return None
