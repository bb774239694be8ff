"""Documents of runs and their tasks."""

from datetime import datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class Run(Part):
    """A DAG run."""

    run_id: str
    dag_id: str
    pool: str
    tenant: str
    trigger: str
    state: str
    priority: int
    submitted_at: datetime
    scheduled_for: datetime | None
    due: datetime | None
    land_by: datetime | None
    ended_at: datetime | None
    reason: str


class DeclaredSchedule(Part):
    """A schedule that was declared with a DAG."""

    dag_id: str
    cron: str
    tz: str


class Submitted(Envelope):
    """submit."""

    runs: list[Run]
    schedules: list[DeclaredSchedule]


class Runs(Envelope):
    """run list."""

    runs: list[Run]


class Task(Part):
    """A task run."""

    task_id: str
    state: str
    instances: int
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    wait_s: float | None = Field(description="From ready to started; null until it started.")
    provision_wait_s: float | None = Field(description="The part of it in which no node had room.")
    node_id: str | None
    attempt: int
    exit_code: int | None
    reason: str


class OneRun(Envelope):
    """run show."""

    run: Run
    tasks: list[Task]
