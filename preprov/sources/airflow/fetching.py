"""What is asked of Airflow in bulk: runs, and the task instances of many runs with few questions."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from preprov.contracts import Reject
from preprov.sources.airflow.client import AirflowClient, Json
from preprov.sources.airflow.facts import RunFacts, RunKey, TaskFacts
from preprov.sources.releases import is_at_least

Tasks = dict[tuple[str, int], TaskFacts]
"""(task id, map index) -> task."""
T = TypeVar("T")

RUNS_AT_ONCE: Final = 1_000
_TASKS_A_QUESTION: Final = 100  # a page of most servers, so that one answer holds them all
_NAMES_A_QUESTION: Final = 100
_ANY: Final = "dags/~/dagRuns"
TRIES_SINCE: Final = "2.10"


class Fetcher:
    """Asks, and keeps aside what cannot be read."""

    def __init__(self, client: AirflowClient) -> None:
        """Ask nothing yet."""
        self._client = client
        self._rejects: list[Reject] = []
        self._unpaged = False

    def rejects(self) -> tuple[Reject, ...]:
        """What could not be read since this was last asked."""
        found, self._rejects = tuple(self._rejects), []
        return found

    def understood(self, items: Iterable[Json], read: Callable[[Json], T]) -> Iterator[T]:
        """Items that make sense."""
        for item in items:
            try:
                yield read(item)
            except (ValueError, TypeError, AttributeError) as error:
                self._rejects.append(Reject(0, f"Airflow: {error}", str(item)[:500]))

    # ------------------------------------------------------------------ runs

    def open_runs(self) -> dict[RunKey, RunFacts]:
        """Runs that are queued or running."""
        pages = self._client.pages(_ANY, "dag_runs", {"state": ["queued", "running"], "order_by": "id"})
        found = (run for page in pages for run in self.understood(page, RunFacts.of))
        return {run.key: run for run in found if not run.over}

    def run(self, key: RunKey) -> RunFacts | None:
        """One run; None if there is none."""
        found = self._client.get(f"dags/{quoted(key[0])}/dagRuns/{quoted(key[1])}")
        return None if found is None else next(self.understood([found], RunFacts.of), None)

    def has_dag(self, dag_id: str) -> bool:
        """Whether there is such a DAG."""
        return self._client.get(f"dags/{quoted(dag_id)}") is not None

    def ended(self, first: float, last: float) -> Iterator[tuple[float, float, dict[RunKey, RunFacts]]]:
        """Runs that ended in [first, last], newest windows first, each (from, until, runs); an instant may be in two.

        A window that holds too many is halved, as long as it is longer than two seconds.
        """
        windows = [(first, last)]
        while windows:
            lo, hi = windows.pop()
            within = {"end_date_gte": instant(lo), "end_date_lte": instant(hi)}
            if hi - lo > 2.0 and self._client.count(_ANY, within) > RUNS_AT_ONCE:
                middle = (lo + hi) / 2
                windows += [(lo, middle), (middle, hi)]
                continue
            pages = self._client.pages(_ANY, "dag_runs", {**within, "order_by": "id"})
            found = (run for page in pages for run in self.understood(page, RunFacts.of))
            yield lo, hi, {run.key: run for run in found if run.over}

    # ------------------------------------------------------------------ tasks

    def changed_tasks(self, since: float) -> Iterator[tuple[RunKey, TaskFacts]]:
        """Task instances of which anything changed since then, of whatever run."""
        params: dict[str, Any] = {"updated_at_gte": instant(since)}
        if self._client.version == "v2":
            params["order_by"] = "id"
        for page in self._client.pages(f"{_ANY}/~/taskInstances", "task_instances", params):
            yield from self.understood(page, _task_of_run)

    def tasks(self, keys: Iterable[RunKey], size: Mapping[str, int]) -> Iterator[dict[RunKey, Tasks]]:
        """All task instances of these runs, some runs at a time; a run that is gone has none.

        Args:
            size: how many tasks a DAG has, as far as it is known.
        """
        for group in _grouped(keys, size):
            found: dict[RunKey, Tasks] = {key: {} for key in group}
            body = {"dag_ids": sorted({k[0] for k in group}), "dag_run_ids": sorted({k[1] for k in group})}
            for page in self._client.posted_pages(f"{_ANY}/~/taskInstances/list", "task_instances", body):
                for key, task in self.understood(page, _task_of_run):
                    if key in found:
                        found[key][task.task_id, task.map_index] = task
            yield found

    @property
    def tells_tries(self) -> bool:
        """Whether this Airflow keeps earlier tries of its tasks."""
        return is_at_least(self._client.release, TRIES_SINCE)

    def tries(self, key: RunKey, task: TaskFacts) -> list[TaskFacts]:
        """All tries of a task instance that Airflow still knows, the present one among them; none if it is gone."""
        mapped = f"/{task.map_index}" if task.map_index >= 0 else ""
        place = f"dags/{quoted(key[0])}/dagRuns/{quoted(key[1])}/taskInstances/{quoted(task.task_id)}{mapped}/tries"
        found = self._client.get(place)
        return [] if found is None else list(self.understood(found.get("task_instances") or (), TaskFacts.of))


def _task_of_run(j: Json) -> tuple[RunKey, TaskFacts]:
    return (str(j["dag_id"]) if "dag_id" in j else "", str(j.get("dag_run_id") or "")), TaskFacts.of(j)


def _grouped(keys: Iterable[RunKey], size: Mapping[str, int]) -> Iterator[list[RunKey]]:
    """Groups that one question names exactly: of one DAG, or of one run id in many DAGs."""
    by_run: dict[str, list[RunKey]] = defaultdict(list)
    for key in dict.fromkeys(keys):
        by_run[key[1]].append(key)
    by_dag: dict[str, list[RunKey]] = defaultdict(list)
    for same in by_run.values():
        if len(same) > 1:
            yield from _portions(same, size)
        else:
            by_dag[same[0][0]].append(same[0])
    for same in by_dag.values():
        yield from _portions(same, size)


def _portions(keys: Sequence[RunKey], size: Mapping[str, int]) -> Iterator[list[RunKey]]:
    part: list[RunKey] = []
    tasks = 0
    for key in keys:
        more = size.get(key[0], 10)
        if part and (tasks + more > _TASKS_A_QUESTION or len(part) >= _NAMES_A_QUESTION):
            yield part
            part, tasks = [], 0
        part.append(key)
        tasks += more
    if part:
        yield part


def instant(seconds: float) -> str:
    """As the API takes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quoted(name: str) -> str:
    """A name as a part of a path."""
    from urllib.parse import quote

    return quote(name, safe="")
