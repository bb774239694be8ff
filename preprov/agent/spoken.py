"""What was last posted, so that a report is posted when it says something new, and from time to time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from preprov.model.agent import PreloadStatus
from preprov.model.notes import Report, report_notes

_PROGRESS_S: Final = 15.0
"""Progress alone is posted that often at most: writes of notes are limited per account."""


class Spoken:
    """Decides what is worth a post."""

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._at: float | None = None
        self._said: object = None
        self._progress = -1.0
        self._noted: dict[str, str] = {}

    def due(self, report: Report, now: float) -> Mapping[str, str]:
        """The report as notes if it is to be posted now; else none."""
        said = _essence(report)
        progress = round(report.health.progress, 1)
        silent_s = float("inf") if self._at is None else now - self._at
        moved = progress != self._progress and silent_s >= _PROGRESS_S
        if said == self._said and not moved and silent_s < self._heartbeat_s:
            return {}
        self._at, self._said, self._progress = now, said, progress
        return _notes(report)

    def once(self, key: str, value: str) -> Mapping[str, str]:
        """A note if it was not posted yet."""
        if self._noted.get(key) == value:
            return {}
        self._noted[key] = value
        return {key: value}

    def forget(self) -> None:
        """The post failed: all of it is to be said again."""
        self._said, self._at, self._noted = None, None, {}


def _essence(report: Report) -> object:
    """The report less what changes all the time."""
    h = report.health
    tasks = tuple((t.claimant, t.ended_at is None) for t in h.tasks)
    preload = tuple((p.kind, p.key, p.state, p.error) for p in h.preload)
    return (h.phase, h.reason, h.ready_at is None, tasks, preload, report.ack, report.came_from, report.channel)


def _notes(report: Report) -> Mapping[str, str]:
    """As notes; where it is too long, without what matters least: texts of errors, then all but the verdicts."""
    for tried in (report, _without_texts(report), _bare(report)):
        try:
            return report_notes(tried)
        except ValueError:
            continue
    return report_notes(replace(_bare(report), health=replace(report.health, preload=(), tasks=(), reason="too long")))


def _without_texts(report: Report) -> Report:
    short = tuple(replace(p, error=p.error[:80]) for p in report.health.preload)
    return replace(report, health=replace(report.health, preload=short, reason=report.health.reason[:200]))


def _bare(report: Report) -> Report:
    short = tuple(PreloadStatus(p.key, p.kind, p.state, digest=p.digest) for p in report.health.preload)
    return replace(report, health=replace(report.health, preload=short, reason=report.health.reason[:200]))
