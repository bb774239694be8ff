"""What goes in and out of the API, as models: the OpenAPI document is made from them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from preprov.model.events import EventKind
from preprov.model.resources import Resources
from preprov.model.work import State

Label = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name as people and programs give it: any letters, no control characters."""
OptionalLabel = Annotated[str, StringConstraints(max_length=250, pattern=r"^[^\x00-\x1f\x7f]*$")]
Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)
Instant = Annotated[AwareDatetime, Field(ge=_FIRST, lt=_LAST)]
YEAR_S = 366 * 86400


class Ask(BaseModel):
    """Base of what is sent: unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class Part(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(extra="forbid")


class Amounts(Ask):
    """Resources of one instance."""

    cpu: Amount = Field(default=0, description="Cores.")
    memory: Amount = Field(default=0, description="GiB.")
    gpu: Amount = Field(default=0, description="Devices.")
    disk_io: Amount = Field(default=0, description="MB/s.")
    network: Amount = Field(default=0, description="MB/s.")

    def resources(self) -> Resources:
        """The domain value."""
        return Resources(self.cpu, self.memory, self.gpu, self.disk_io, self.network)


class AskedSegment(Amounts):
    """A constant claim over [start, end)."""

    start: Instant
    end: Instant

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a segment must end after it starts")
        return self


class ReservationAsk(Ask):
    """A reservation that is asked for: `request` for `seconds` from `start`, or `segments`."""

    pool: Label
    claimant: Label = Field(
        description="Any label; a tenant has at most one live reservation of a claimant in a pool.",
        examples=["airflow/nightly_etl/2026-01-05"],
    )
    request: Amounts | None = Field(default=None, description="Resources of one instance.")
    start: Instant | None = Field(default=None, description="Now if not given.")
    seconds: float = Field(default=3600, gt=0, le=YEAR_S, description="How long it is held from `start`.")
    segments: list[AskedSegment] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Instead of request: of one instance.",
    )
    count: int = Field(default=1, ge=1, le=1000, description="Instances: all are held together, or none.")
    priority: int | None = Field(
        default=None, ge=-1_000_000, le=1_000_000, description="The tenant's if not given, and no higher than that."
    )
    expires_in: float | None = Field(
        default=None, gt=0, le=YEAR_S, description="Seconds after `start` at which it is void unless taken up; 900."
    )
    tenant: Label | None = Field(default=None, description="For whom; only an administrator may name another's.")
    dag_id: OptionalLabel = Field(
        default="",
        description="The DAG whose tasks it is for: of them only what is not foreseen anyway is provided on top.",
    )
    reason: OptionalLabel = ""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.request is None) == (self.segments is None):
            raise ValueError("give either request or segments")
        if self.segments is None and self.request is not None and self.request.resources().is_zero:
            raise ValueError("request wants nothing")
        for a, b in zip(self.segments or [], (self.segments or [])[1:], strict=False):
            if b.start < a.end:
                raise ValueError("segments must be in order and not overlap")
        return self

    def spans(self, now: datetime) -> list[tuple[datetime, datetime, Resources]]:
        """(start, end, amount) of one instance."""
        if self.segments is not None:
            return [(s.start, s.end, s.resources()) for s in self.segments]
        begin = self.start or now
        amount = self.request.resources() if self.request else Resources()
        return [(begin, begin + timedelta(seconds=self.seconds), amount)]


class SegmentPart(Part):
    """A constant claim over [start, end)."""

    start: datetime
    end: datetime
    cpu: float
    memory: float
    gpu: float
    disk_io: float
    network: float


class VolumePart(Part):
    """A storage volume that is claimed."""

    name: str
    gib: float = Field(description="What it has; at the least, until it is bound.")
    keep: bool = Field(description="False: giving the reservation back deletes it.")


class UnitsPart(Part):
    """Units of a resource type that counts in its own terms."""

    kind: str
    amount: dict[str, float]


class ReservationPart(Part):
    """A reservation as it is now."""

    reservation_id: str
    pool: str
    tenant: str
    claimant: str
    state: Literal["soft", "committed", "released", "expired"]
    ready: bool = Field(description="Every instance is bound to a node that is warm: work may start.")
    count: int
    nodes: list[str | None] = Field(description="The node of each instance; null until it is bound.")
    segments: list[SegmentPart] = Field(description="Of one instance.")
    priority: int
    purpose: Literal["booking", "window", "volume", "units"] = Field(
        description="window: a turn of a recurring window. volume, units: a storage volume, or units of "
        "a resource type of your own, and no room of a node."
    )
    volume: VolumePart | None = Field(description="Of purpose volume.")
    units: UnitsPart | None = Field(description="Of purpose units.")
    created_at: datetime | None
    expires_at: datetime | None = Field(description="Void after this unless committed by then.")
    reason: str


class ReservationList(Part):
    """Reservations by start."""

    reservations: list[ReservationPart]
    next: str | None = Field(
        default=None, description="There are more: ask the same with this as `after`. Null: these are all."
    )


class EventAsk(Ask):
    """One thing that happened to a run, or to a task of it."""

    event_id: Label = Field(description="Unique in its source; the same one again changes nothing.")
    kind: EventKind
    at: Instant
    dag_id: Label
    run_id: Label
    task_id: OptionalLabel = Field(default="", description="Empty: the run as a whole.")
    pool: OptionalLabel = Field(default="", description="Empty: by the routes of preprov.toml.")
    state: State | None = Field(default=None, description="How it ended, for kind finished.")
    request: Amounts | None = Field(default=None, description="What one instance of the task asked for.")
    instances: int = Field(default=1, ge=1, le=1_000_000)
    reservation_id: OptionalLabel = Field(default="", description="What it runs under, if anything.")
    details: dict[Label, OptionalLabel] = Field(default_factory=dict, max_length=50)

    @model_validator(mode="after")
    def _ends_somehow(self) -> Self:
        if (self.kind is EventKind.FINISHED) != (self.state is not None):
            raise ValueError("state belongs to kind finished, and only there")
        if self.state is not None and not self.state.is_final:
            raise ValueError("state must be succeeded, failed, skipped or cancelled")
        return self


class EventsAsk(Ask):
    """Events of one source; all are kept, or none."""

    source: Label = Field(examples=["airflow-prod"])
    events: list[EventAsk] = Field(min_length=1, max_length=1000)
    tenant: Label | None = Field(default=None, description="Whose; only an administrator may name another's.")


class HeardPart(Part):
    """What became of them."""

    accepted: int
    duplicates: int = Field(description="Told before, or twice in one request: nothing changed.")


class StateAsk(Ask):
    """What a node says of itself."""

    pool: Label
    phase: Literal["ready", "failed"]
    reason: OptionalLabel = ""


class HeardStatePart(Part):
    """It was heard; the pool is looked at."""

    node_id: str
    phase: Literal["ready", "failed"]


class WarmingPart(Part):
    """A warming that a pass has seen the end of."""

    node_id: str
    pool: str
    group: str
    ready: bool = Field(description="False: it failed.")
    at: datetime
    seconds: float = Field(description="From the decision on.")
    came_from: str = Field(description="cold, stopped or hibernated.")


class HealthPart(Part):
    """The process answers."""

    status: Literal["ok"]
    version: str


class ReadyPart(Part):
    """The store answers and its schema is the one this program needs."""

    status: Literal["ready"]
    store: str = Field(description="sqlite or postgresql.")
    pools: int


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None


PROBLEM: dict[str, Any] = {
    "model": Problem,
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
"""How an error response is described."""
