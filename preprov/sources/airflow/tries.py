"""Earlier tries of tasks that were tried again, or cleared after they ran: when, where, with what.

A task instance tells of its last try alone. Airflow 2.10 and newer keep the ones before, and tell of them a task
instance at a time. So a pass asks for so many at the most: runs that are over and for which that was not enough are
noted down, and told anew, with their tries, by the passes that follow. What was read of runs that will be told again
(they are open, or ended a moment ago) is noted down too, so that another process does not ask for it once more.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Final

from preprov.sources.airflow.facts import RunKey, TaskFacts
from preprov.sources.airflow.fetching import Fetcher, Tasks

PREFIX: Final = "tries:"
"""Of a key of the notebook: a run that is over and was told without all of its tries."""
READ: Final = "tried:"
"""Of a key of the notebook: tries that were read, of a run that will be told again."""
_MOST_OWED: Final = 2_000
"""Runs that are noted down: where more of them wait, tasks fail faster than Airflow may be asked about it."""


class Tries:
    """What is known of earlier tries, and of which runs they are still to be read."""

    def __init__(self, fetch: Fetcher, most: int) -> None:
        """Nothing is known yet.

        Args:
            most: task instances that a pass asks about; a run that it has begun with is read to its end, or to as many.
        """
        self._fetch, self._most = fetch, most
        self._known: dict[tuple[RunKey, str, int], tuple[int, tuple[TaskFacts, ...]]] = {}
        self._kept: dict[str, str] = {}
        self._owed: dict[str, None] = {}
        self._unwritten: dict[str, str | None] = {}
        self._left = most
        self._notes: dict[str, None] = {}

    def begin(self, notebook: Mapping[str, str]) -> None:
        """A pass begins; `notebook`: what was kept of the ones before."""
        self._owed = {key: None for key in notebook if key.startswith(PREFIX)}
        self._kept = {key: text for key, text in notebook.items() if key.startswith(READ)}
        for key, text in self._kept.items():
            for instance, found in _loaded(text):
                self._known.setdefault((_run(key, READ), *instance), found)
        self._unwritten = {}
        self._left = self._most

    def forget(self) -> None:
        """As at the beginning."""
        self._known = {}

    def keep(self, *runs: Container[RunKey]) -> None:
        """Of other runs than these nothing that was read is needed any more."""
        self._known = {k: v for k, v in self._known.items() if any(k[0] in some for some in runs)}
        by_run: dict[str, list[object]] = {}
        for (key, *instance), (last, tries) in self._known.items():
            by_run.setdefault(_name(key, READ), []).append([*instance, last, [_dumped(t) for t in tries]])
        texts = {name: json.dumps(found, separators=(",", ":"), ensure_ascii=False) for name, found in by_run.items()}
        self._unwritten |= {name: text for name, text in texts.items() if self._kept.get(name) != text}
        self._unwritten |= dict.fromkeys(self._kept.keys() - texts.keys())
        self._kept = texts

    # ------------------------------------------------------------------ reading

    def read(self, key: RunKey, tasks: Tasks, *, over: bool) -> bool:
        """Ask for what is missing of a run; False if this pass has asked enough, and it was not asked for."""
        missing = [t for t in tasks.values() if self._missing(key, t)] if self._fetch.tells_tries else []
        if missing and self.spent:
            return False
        if len(missing) > self._most and over:
            text = f"{key[0]}/{key[1]}: {len(missing)} tasks were tried again; earlier tries of {self._most} are read"
            self._notes[text] = None
        for task in missing[: self._most]:
            self._left -= 1
            found = self._fetch.tries(key, task)
            self._known[key, task.task_id, task.map_index] = (_earlier(task), _sorted_out(task, found))
        return True

    def _missing(self, key: RunKey, task: TaskFacts) -> bool:
        if task.tries < 2:
            return False
        known, _ = self._known.get((key, task.task_id, task.map_index), (0, ()))
        return _earlier(task) > known

    def of(self, key: RunKey, tasks: Tasks) -> tuple[TaskFacts, ...]:
        """Earlier tries of a run's tasks, as far as they are known."""
        out: list[TaskFacts] = []
        for task in tasks.values():
            if task.tries < 2 and task.state != "up_for_retry":
                continue
            _, found = self._known.get((key, task.task_id, task.map_index), (0, ()))
            out += [t for t in found if t.tries <= _earlier(task)]
            if task.state == "up_for_retry" and task.started == task.started and task.ended == task.ended:
                out.append(replace(task, state="failed", earlier=True))
        return tuple(out)

    # ------------------------------------------------------------------ what is left for later

    @property
    def owed(self) -> tuple[RunKey, ...]:
        """Runs that are to be told again with their tries, oldest note first."""
        return tuple(_run(name, PREFIX) for name in self._owed)

    @property
    def spent(self) -> bool:
        """Whether this pass asks no more."""
        return self._left <= 0

    def settle(self, key: RunKey, *, whole: bool) -> None:
        """A run that is over was told, with all its tries or not; one that is there no more is whole."""
        name = _name(key, PREFIX)
        if whole and name in self._owed:
            del self._owed[name]
            self._unwritten[name] = None
        elif not whole and name not in self._owed:
            if len(self._owed) >= _MOST_OWED:
                text = (
                    f"more than {_MOST_OWED} runs wait for their tasks' earlier tries to be read: of some they stay out"
                )
                self._notes[text] = None
                return
            self._owed[name] = None
            self._unwritten[name] = ""

    def written(self) -> dict[str, str | None]:
        """What is to be kept in the notebook, since this was last asked."""
        out, self._unwritten = self._unwritten, {}
        return out

    def notes(self) -> tuple[str, ...]:
        """What a person should know, since this was last asked."""
        out, self._notes = tuple(self._notes), {}
        return out


def _name(key: RunKey, prefix: str) -> str:
    """Of a run in the notebook."""
    return f"{prefix}{key[0]}\n{key[1]}"


def _run(name: str, prefix: str) -> RunKey:
    dag_id, _, run_id = name[len(prefix) :].partition("\n")
    return dag_id, run_id


def _dumped(task: TaskFacts) -> list[object]:
    return [getattr(task, f.name) for f in fields(task)]


def _loaded(text: str) -> Iterator[tuple[tuple[str, int], tuple[int, tuple[TaskFacts, ...]]]]:
    """What `keep` wrote of a run: (task, index) -> what is known of it; nothing from what another preprov wrote."""
    try:
        for task_id, index, last, tries in json.loads(text):
            yield (task_id, index), (last, tuple(TaskFacts(*t) for t in tries))
    except (ValueError, TypeError):
        return


def _earlier(task: TaskFacts) -> int:
    """Number of the last try that the task instance itself does not tell of."""
    return task.tries if task.state == "none" else task.tries - 1


def _sorted_out(task: TaskFacts, found: Iterable[TaskFacts]) -> tuple[TaskFacts, ...]:
    """Those that ran and are over, each once: Airflow tells of the present one too, some releases of one twice."""
    ran = {
        t.tries: replace(t, state="success" if t.state == "success" else "failed", looks=task.looks, earlier=True)
        for t in found
        if t.tries <= _earlier(task) and t.started == t.started and t.ended == t.ended
    }
    return tuple(ran[n] for n in sorted(ran))
