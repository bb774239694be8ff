"""What an orchestrator tells of work that runs there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from preprov.model.resources import Resources
from preprov.model.time import aware
from preprov.model.work import State


class EventKind(StrEnum):
    """What happened to a run, or to one of its tasks where the event names one."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened elsewhere.

    Attributes:
        source: name of the orchestrator that tells it, such as `airflow-prod`.
        event_id: unique in its source; the same one told again changes nothing.
        pool: where the work belongs; "" = by the routes.
        task_id: "" = the run as a whole.
        state: how it ended, for FINISHED.
        request: what one instance of the task asked for, if that is known.
        reservation_id: what it ran under, if anything.
        details: more of it, as told. Understood are `queue` (what routes call the task's) and `scheduled_for` (the
            instant that the run's schedule meant, ISO 8601).
    """

    tenant: str
    source: str
    event_id: str
    kind: EventKind
    at: datetime
    dag_id: str
    run_id: str
    task_id: str = ""
    pool: str = ""
    state: State | None = None
    request: Resources | None = None
    instances: int = 1
    reservation_id: str = ""
    details: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", aware(self.at))
