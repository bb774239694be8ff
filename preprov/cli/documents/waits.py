"""What `waits` prints with `-o json`."""

from datetime import datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class WaitCause(Part):
    """What tasks waited on one thing."""

    cause: str = Field(description="airflow_pool, max_active_tasks, boot, image, …, unknown.")
    family: str = Field(description="limits, scheduler, node, image, data or unknown.")
    source: str = Field(description="Who keeps the limit; empty = preprov itself.")
    name: str = Field(description="As its owner calls it: of an Airflow pool, a DAG, a worker, a pool.")
    hours: float
    tasks: int
    slots: float | None = Field(description="How many it has now; null where it has none.")


class WaitFamilies(Part):
    """Hours of waiting by family."""

    limits: float
    scheduler: float
    node: float
    image: float
    data: float
    unknown: float


class WaitDag(Part):
    """What tasks of a DAG waited."""

    dag_id: str
    tasks: int
    hours: float
    by_family: WaitFamilies
    worst: WaitCause


class WaitHour(Part):
    """What tasks waited that started within an hour."""

    at: datetime
    by_family: WaitFamilies


class HourTonight(Part):
    """An hour to come."""

    at: datetime
    limit: WaitCause | None = Field(description="The limit that will make tasks wait longest; its hours are foreseen.")
    limit_hours: float
    node_hours: float = Field(description="What tasks waited for nodes in this hour of the day, a day.")
    nodes_help: bool | None = Field(description="null = there is hardly any waiting.")
    says: str


class Waits(Envelope):
    """waits."""

    since: datetime
    until: datetime
    pools: list[str]
    tasks: int = Field(description="That started in the period.")
    hours: float = Field(description="They waited in all.")
    by_family: WaitFamilies
    unknown_ratio: float = Field(description="Share of the waiting that nothing explains.")
    causes: list[WaitCause]
    dags: list[WaitDag]
    timeline: list[WaitHour]
    waiting: int = Field(description="Tasks that could start and have not.")
    waiting_hours: float
    tonight: list[HourTonight]
