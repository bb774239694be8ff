"""What Airflow says of runs, tasks and DAGs, in the few words that are needed here, of both versions of its API."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from preprov.model.signature import Signature
from preprov.model.signature_sources import airflow
from preprov.sources.instants import NAN, seconds
from preprov.sources.quantities import cores, gib
from preprov.sources.text import clean

Json: TypeAlias = Mapping[str, Any]
RunKey: TypeAlias = tuple[str, str]
"""(dag id, run id): Airflow's run ids are unique within their DAG only."""
OPEN: Final = frozenset({"queued", "running", "restarting"})


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A DAG run; times in epoch seconds, NaN = not yet or not known.

    Attributes:
        queued: when it was made, or made anew by a clear; API v1 does not say.
        turn: the instant its schedule meant; NaN if no schedule made it. logical: of a run made by hand, the instant it
            names, which is when it was made if nobody said otherwise.
        version: of its DAG's code; "" = not said.
    """

    dag_id: str
    run_id: str
    kind: str
    state: str
    queued: float
    turn: float
    logical: float
    started: float
    ended: float
    version: str

    @property
    def key(self) -> RunKey:
        """What it is known by."""
        return self.dag_id, self.run_id

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in OPEN

    @classmethod
    def of(cls, j: Json) -> "RunFacts":
        """From JSON.

        Raises:
            ValueError: it has no name.
        """
        kind = str(j.get("run_type") or "manual")
        turn = seconds(j.get("run_after")) if "run_after" in j else seconds(j.get("data_interval_end"))
        versions = j.get("dag_versions") or ()
        number = versions[-1].get("version_number", "") if versions else ""
        return cls(
            dag_id=_name(j, "dag_id"),
            run_id=_name(j, "dag_run_id"),
            kind=kind,
            state=str(j.get("state") or "queued"),
            queued=seconds(j.get("queued_at")),
            turn=turn if kind == "scheduled" else NAN,
            logical=seconds(j.get("logical_date")) if kind == "manual" else NAN,
            started=seconds(j.get("start_date")),
            ended=seconds(j.get("end_date")),
            version=str(number),
        )


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task instance; times in epoch seconds, NaN = not yet.

    Attributes:
        pool, slots: Airflow pool, and how many of its slots. host: of the worker, as the worker calls it.
        cpu, memory, gpu: cores, GiB and devices that its executor config asks for; NaN = it does not say.
        looks: digest of what it runs as far as is told: whole once it has started, for only then is it told.
        slept: when it went to sleep, of one that sleeps outside of a worker; NaN otherwise.
        earlier: it is a try of a task instance that was tried again since.
    """

    task_id: str
    map_index: int
    state: str
    scheduled: float
    queued: float
    started: float
    ended: float
    tries: int
    pool: str
    slots: int
    queue: str
    weight: int
    operator: str
    cpu: float
    memory: float
    gpu: float
    host: str = ""
    looks: str = ""
    slept: float = NAN
    earlier: bool = False

    @property
    def name(self) -> str:
        """What it is called within its run; an earlier try by its number, as no task id can be."""
        own = self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"
        return f"{own}@{self.tries}" if self.earlier else own

    @classmethod
    def of(cls, j: Json) -> "TaskFacts":
        """From JSON.

        Raises:
            ValueError: it has no name.
        """
        trigger = j.get("trigger")
        asks = requests(j.get("executor_config"))
        return cls(
            task_id=_name(j, "task_id"),
            map_index=int(j.get("map_index", -1)),
            state=str(j.get("state") or "none"),
            scheduled=seconds(j.get("scheduled_when")),
            queued=seconds(j.get("queued_when")),
            started=seconds(j.get("start_date")),
            ended=seconds(j.get("end_date")),
            tries=int(j.get("try_number") or 0),
            pool=clean(j.get("pool")),
            slots=int(j.get("pool_slots") or 1),
            queue=clean(j.get("queue")),
            weight=int(j.get("priority_weight") or 0),
            operator=clean(j.get("operator") or j.get("operator_name")),
            cpu=asks[0],
            memory=asks[1],
            gpu=asks[2],
            host=clean(j.get("hostname")),
            looks=Signature.of(airflow(j)).digest,
            slept=seconds(trigger.get("created_date")) if isinstance(trigger, Mapping) else NAN,
        )


@dataclass(frozen=True, slots=True)
class DagFacts:
    """A DAG as the list of DAGs tells it.

    Attributes:
        timetable: JSON of API v1's schedule interval, or the summary of API v2.
        next_run: when its next run is made; NaN = none, or not before one of its runs has ended.
        lag_s: so long before that the time it is about begins: its end date is compared with that.
    """

    dag_id: str
    paused: bool
    timetable: Any
    next_run: float
    max_active_runs: int | None
    max_active_tasks: int | None
    owner: str
    lag_s: float = 0.0

    @classmethod
    def of(cls, j: Json) -> "DagFacts":
        """From JSON.

        Raises:
            ValueError: it has no name.
        """
        owners = j.get("owners") or ()
        after = seconds(j.get("next_dagrun_run_after") or j.get("next_dagrun_create_after"))
        lag = after - seconds(j.get("next_dagrun_data_interval_start"))
        return cls(
            dag_id=_name(j, "dag_id"),
            paused=bool(j.get("is_paused")),
            timetable=j["timetable_summary"] if "timetable_summary" in j else j.get("schedule_interval"),
            next_run=after,
            max_active_runs=_positive(j.get("max_active_runs")),
            max_active_tasks=_positive(j.get("max_active_tasks")),
            owner=clean(owners[0]) if owners else "",
            lag_s=max(lag, 0.0) if lag == lag else 0.0,
        )


def _name(j: Json, key: str) -> str:
    value = j.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {key}")
    return clean(value)


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


# --------------------------------------------------------------------------- executor configs

_REQUESTS: Final = re.compile(r"""['"]?requests['"]?\s*[:=]\s*(\{[^{}]*\})""")
_LONGEST: Final = 100_000


def requests(config: Any) -> tuple[float, float, float]:
    """(cores, GiB, GPUs) that an executor config asks for, NaN each where it does not say.

    The API gives the config as the text of a Python value: of KubernetesExecutor's keywords, or of a whole pod, whose
    own way of writing itself is not Python; of that the container's `requests` are looked for.
    """
    if not config or config == "{}":
        return NAN, NAN, NAN
    text = str(config)[:_LONGEST]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    found = _requests_in(value) if isinstance(value, Mapping) else None
    if found is None and (match := _REQUESTS.search(text)):
        try:
            found = ast.literal_eval(match.group(1))
        except (ValueError, SyntaxError):
            found = None
    return _amounts(found) if isinstance(found, Mapping) else (NAN, NAN, NAN)


def _requests_in(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of KubernetesExecutor's keywords, or wherever in a tree `requests` stand."""
    keywords = value.get("KubernetesExecutor")
    if isinstance(keywords, Mapping):
        names = {"request_cpu": "cpu", "request_memory": "memory", "limit_gpu": "gpu", "request_gpu": "gpu"}
        found = {ours: keywords[theirs] for theirs, ours in names.items() if keywords.get(theirs) is not None}
        return found or None
    stack: list[Any] = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, Mapping):
            if isinstance(part.get("requests"), Mapping):
                return part["requests"]  # type: ignore[no-any-return]
            stack.extend(part.values())
        elif isinstance(part, Sequence) and not isinstance(part, str):
            stack.extend(part)
    return None


def _amounts(found: Mapping[str, Any]) -> tuple[float, float, float]:
    gpus = [v for k, v in found.items() if str(k) == "gpu" or str(k).endswith("/gpu")]
    return (
        _amount(cores, found.get("cpu")),
        _amount(gib, found.get("memory")),
        _amount(float, gpus[0] if gpus else None),
    )


def _amount(read: Any, value: Any) -> float:
    try:
        return NAN if value is None else float(read(value))
    except (ValueError, TypeError):
        return NAN
