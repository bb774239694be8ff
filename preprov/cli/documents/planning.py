"""Documents of the commands around a plan: prices, lead times, launch order, preloading."""

from datetime import datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class OfferingPrice(Part):
    """The price in force of an offering of a pool."""

    pool: str
    group: str
    offering: str
    instance_type: str
    zone: str
    capacity_type: str
    usd_per_hour: float | None = Field(description="After the discount; null = not known, plans count node-hours.")
    discount: float = Field(description="Share that a commitment takes off.")
    source: str = Field(description="configured, table, list or spot; empty if there is no price.")
    since: datetime
    stopped_usd_per_hour: float | None
    hibernated_usd_per_hour: float | None
    interruptions_per_hour: float | None


class Prices(Envelope):
    """prices list."""

    offerings: list[OfferingPrice]


class KnownPrice(Part):
    """A price, in force from an instant on."""

    zone: str = Field(description="A zone or its region; empty = wherever no other says more.")
    capacity_type: str
    since: datetime
    usd_per_hour: float | None
    source: str
    interruptions_per_hour: float | None


class PricesOfType(Envelope):
    """prices show."""

    instance_type: str
    prices: list[KnownPrice]


class AskedGroup(Part):
    """A group whose cloud was asked."""

    pool: str
    group: str
    quotes: int
    problem: str


class PricesRefreshed(Envelope):
    """prices refresh."""

    new: int = Field(description="Prices that were not known.")
    groups: list[AskedGroup]


class LeadRow(Part):
    """How long nodes of an offering take to be ready from one state; seconds at p50, p90, p95, p99."""

    group: str
    provider: str
    offering: str
    instance_type: str
    zone: str
    from_: str = Field(alias="from", description="cold, stopped or hibernated.")
    observations: int = Field(description="Warmings behind it; 0 = as configured.")
    quantiles_s: dict[str, float]
    configured_s: dict[str, float]
    failure_rate: float = Field(description="Share of warmings that never become ready.")
    parts: dict[str, dict[str, float]] = Field(description="allocate, boot, image, data, join, where they were seen.")
    tried_last_until: datetime | None = Field(description="It had no capacity, or failed, a short while ago.")


class Leads(Envelope):
    """pool leads."""

    leads: list[LeadRow]


class OrderCapacity(Part):
    """Cores that will be ready from an instant on, if the plan is carried out."""

    at: datetime
    cores: float


class OrderedRun(Part):
    """A run in its place; start and end at p5, p50, p95, null = not within the horizon."""

    rank: int
    run_id: str = Field(description="Of a run that only its schedule announces: dag@turn.")
    dag_id: str
    tenant: str
    expected: bool = Field(description="It was not submitted yet.")
    probability: float = Field(description="That it comes at all.")
    priority: int
    ready_at: datetime
    land_by: datetime | None
    late_usd_per_minute: float
    start: dict[str, datetime | None]
    end: dict[str, datetime | None]
    lands: float | None = Field(description="Probability that it ends in time; null = it has no time to land by.")
    late_usd: float = Field(description="Expected price of lateness.")
    cores: float = Field(description="That it can use at once.")
    core_hours: float = Field(description="Still to do, on average.")


class OrderSums(Part):
    """What an order comes to."""

    missed: float = Field(description="Deadlines missed, by expectation.")
    late_usd: float
    mean_end_s: float = Field(description="Seconds until a run has ended, on average.")


class Order(Envelope):
    """queue order."""

    binds: list[str] = Field(
        description="Limits that keep the pool from having what it wants; none = no order matters."
    )
    step_seconds: float
    capacity: list[OrderCapacity]
    runs: list[OrderedRun]
    proposed: OrderSums
    first_come: OrderSums


class LimitUse(Part):
    """What a pool has of a limit now."""

    pool: str
    nodes: int
    cores: float = Field(description="Of whole machines.")
    usd_today: float = Field(description="0 where the limit is not about money.")
    usd_per_hour: float


class LimitRow(Part):
    """A quota or budget that pools share; null = not limited."""

    name: str
    max_nodes: int | None
    max_cpu: float | None
    max_usd_per_day: float | None
    use: list[LimitUse]


class Limits(Envelope):
    """limit list."""

    limits: list[LimitRow]


class ServedSetting(Part):
    """A limit or a job variable that is served."""

    setting: str
    now: int | str | None = Field(description="null = not set; a limit then has no bound.")
    wanted: int | str | None = Field(description="What it is set to where the pool's mode allows.")
    held: int | None = Field(description="Runs that count against it; null for what is no limit.")
    found: int | str | None = Field(description="As it was before the first write; null too if nothing was written.")


class ServedPlace(Part):
    """A place that runs work on a pool's nodes by its own means."""

    place: str
    pool: str
    mode: str
    slots: int | None = Field(description="Runs that fit on the warm nodes; null if it could not be asked.")
    nodes: list[str] = Field(description="Warm ones.")
    workers: dict[str, int] = Field(description="Node -> runs that its worker has in hand.")
    settings: list[ServedSetting]
    error: str


class ServedPlaces(Envelope):
    """pool served."""

    places: list[ServedPlace]


class PreloadSite(Part):
    """What the nodes of the pool are like."""

    launches_per_day: float
    disk_gib: float = Field(description="Room for assets.")
    usd_per_hour: float
    fetch_gib_per_s: float
    bakes: bool = Field(description="The nodes' image is ours to make.")


class PreloadAsset(Part):
    """An image or a dataset that tasks read."""

    asset: str
    kind: str
    placing: str = Field(description="bake, stage or leave.")
    size_gib: float | None
    uses_per_day: float
    changes_per_day: float
    saves_s_per_day: float
    saves_s_per_day_per_gib: float
    usd_per_day: dict[str, float] = Field(description="Net, by placing, against leaving it.")
    why: str


class PreloadPlan(Envelope):
    """preload plan."""

    site: PreloadSite
    assets: list[PreloadAsset] = Field(description="What saves most per GiB first.")
    notes: list[str] = Field(description="What was assumed because nobody knows it.")
