"""The keys of a submitted DAG and its tasks; an unknown one is refused with the nearest right name."""

import difflib
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias
from zoneinfo import available_timezones

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from preprov.model.errors import ConfigError
from preprov.model.resources import ZERO, Resources
from preprov.model.work import DagSpec, DatasetRef, ImageRef, Probe, TaskSpec
from preprov.sources.quantities import cores, count, duration, gib, instant, mb_per_s
from preprov.sources.zones import canonical_zone


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class RequestForm(_Form):
    """requests: of ONE instance. A bare number is cores, GiB, devices, MB/s."""

    cpu: Annotated[float, BeforeValidator(cores)] = 1.0
    memory: Annotated[float, BeforeValidator(gib)] = 1.0
    gpu: Annotated[float, BeforeValidator(count)] = 0.0
    disk_io: Annotated[float, BeforeValidator(mb_per_s)] = 0.0
    network: Annotated[float, BeforeValidator(mb_per_s)] = 0.0

    def build(self) -> Resources:
        """The domain value."""
        return Resources(self.cpu, self.memory, self.gpu, self.disk_io, self.network)


class ImageForm(_Form):
    """An image that must be on the node."""

    uri: str
    digest: str = ""


class DatasetForm(_Form):
    """A dataset that must be on the node."""

    uri: str
    version: str = ""
    sha256: str = ""
    size: Annotated[float, BeforeValidator(gib)] | None = Field(
        default=None, validation_alias=AliasChoices("size", "size_gib")
    )


def _argv(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as e:
            raise ValueError(f"the command cannot be split into words: {e}") from None
    return value


def _by_uri(value: Any) -> Any:
    return [{"uri": v} if isinstance(v, str) else v for v in value] if isinstance(value, list | tuple) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ProbeForm(_Form):
    """A short, capped run on a sample of the input, where the pool says so. Without a command it is the task's own."""

    command: Annotated[list[str], BeforeValidator(_argv)] = Field(default_factory=list)
    seconds: Annotated[float, BeforeValidator(duration), Field(gt=0)] = 60.0
    cap: RequestForm = RequestForm()

    def build(self) -> Probe:
        """The domain value."""
        return Probe(tuple(self.command), self.seconds, self.cap.build())


class TaskForm(_Form):
    """One task.

    `command` is a list of words, or one line that is split as a shell would (no shell runs it). `runtime` is what the
    submitter believes, used until history knows better.
    """

    id: str = Field(min_length=1)
    command: Annotated[list[str], BeforeValidator(_argv)] = Field(default_factory=list)
    parents: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    requests: RequestForm | None = None
    instances: int = Field(default=1, ge=1)
    gang: bool = False
    runtime: Annotated[float, BeforeValidator(duration), Field(gt=0)] | None = None
    priority: int | None = None
    retries: int = Field(default=0, ge=0)
    operator: str = ""
    images: Annotated[list[ImageForm], BeforeValidator(_by_uri)] = Field(default_factory=list)
    datasets: Annotated[list[DatasetForm], BeforeValidator(_by_uri)] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    affinity: dict[str, str] = Field(default_factory=dict)
    under: str = Field(default="", description="Id of the reservation that it uses up.")
    probe: ProbeForm | None = None

    def build(self) -> TaskSpec:
        """The domain value."""
        return TaskSpec(
            task_id=self.id,
            command=tuple(self.command),
            parents=tuple(dict.fromkeys(self.parents)),
            request=self.requests.build() if self.requests else ZERO,
            instances=self.instances,
            gang=self.gang,
            runtime_hint_s=self.runtime,
            priority=self.priority,
            retries=self.retries,
            operator=self.operator,
            images=tuple(ImageRef(i.uri, i.digest) for i in self.images),
            datasets=tuple(DatasetRef(d.uri, d.version, d.sha256, d.size) for d in self.datasets),
            env=MappingProxyType(dict(self.env)),
            affinity=MappingProxyType(dict(self.affinity)),
            under=self.under,
            probe=self.probe.build() if self.probe else None,
        )


Moment: TypeAlias = str | datetime | date | time


class DagForm(_Form):
    """One DAG.

    `due` ("+2m", "02:00", ISO 8601): do not start before; relative times count from now. `land_by`: must have finished
    by; relative times count from `due`, of a scheduled DAG from its next turn. `schedule` is a cron in `zone`.
    """

    id: str = Field(min_length=1)
    tasks: list[TaskForm] = Field(default_factory=list, validation_alias=AliasChoices("tasks", "task"))
    tenant: str = "default"
    pool: str | None = None
    queue: str = ""
    priority: int = 0
    due: Moment | None = None
    land_by: Moment | None = Field(default=None, validation_alias=AliasChoices("land_by", "deadline"))
    schedule: str | None = None
    zone: str | None = None
    max_cost: float | None = Field(default=None, ge=0, validation_alias=AliasChoices("max_cost", "max_cost_usd"))

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is None:
            return None
        name = canonical_zone(value)
        if name is None:
            near = difflib.get_close_matches(value, available_timezones(), 1)
            raise ValueError(f"unknown time zone {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return name

    @field_validator("schedule")
    @classmethod
    def _known_cron(cls, value: str | None) -> str | None:
        from cronsim import CronSim, CronSimError

        if value is None:
            return None
        cron = " ".join(value.split())
        try:
            if len(cron.split()) != 5:
                raise CronSimError("it needs five fields")
            CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError as e:
            raise ValueError(f"{value!r} is not a cron expression: {e}") from None
        return cron

    def build(self, *, now: datetime, zone: str, pool: str | None) -> DagSpec:
        """The domain value.

        Raises:
            ValueError: a time cannot be read. WorkError: the DAG is malformed.
        """
        own = self.zone or zone
        due = self._moment("due", now=now, after=now, zone=own)
        start = due or self._next_turn(now, own) or now
        return DagSpec(
            dag_id=self.id,
            tasks=tuple(t.build() for t in self.tasks),
            tenant=self.tenant,
            pool=self.pool or pool,
            queue=self.queue,
            priority=self.priority,
            due=due,
            land_by=self._moment("land_by", now=now, after=start, zone=own),
            schedule=self.schedule,
            zone=own,
            max_cost_usd=self.max_cost,
        )

    def _moment(self, name: str, *, now: datetime, after: datetime, zone: str) -> datetime | None:
        value = getattr(self, name)
        try:
            return None if value is None else instant(value, now=now, after=after, zone=zone)
        except ValueError as e:
            raise ValueError(f"{name}: {e}") from None

    def _next_turn(self, now: datetime, zone: str) -> datetime | None:
        if self.schedule is None:
            return None
        from zoneinfo import ZoneInfo

        from cronsim import CronSim

        turn: datetime = next(CronSim(self.schedule, now.astimezone(ZoneInfo(zone)) - timedelta(seconds=1)))
        return turn.astimezone(UTC)


def explained(error: ValidationError, where: str) -> ConfigError:
    """The first problem of a validation error in plain words, with its key, or the nearest right one."""
    problems = error.errors()
    first = problems[0]
    key = _dotted(first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    place = f"{where}: {key}" if key else where
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return ConfigError(f"unknown key {first['loc'][-1]!r}{more}", where=place, hint=hint)
    return ConfigError(f"{key}: {first['msg'].removeprefix('Value error, ')}{more}".lstrip(": "), where=place)


_FORMS: Final[Mapping[str, type[BaseModel]]] = {
    "tasks": TaskForm,
    "task": TaskForm,
    "requests": RequestForm,
    "probe": ProbeForm,
    "cap": RequestForm,
    "images": ImageForm,
    "datasets": DatasetForm,
}


def _dotted(loc: Sequence[int | str]) -> str:
    return "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")


def _known_keys(loc: Sequence[int | str]) -> list[str]:
    names = [p for p in loc if isinstance(p, str)]
    form: type[BaseModel] = DagForm
    for name in names:
        form = _FORMS.get(name, form)
    return list(form.model_fields)
