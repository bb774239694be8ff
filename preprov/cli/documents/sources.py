"""What the commands of sources and routes print with `-o json`."""

from datetime import datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class SourceNote(Part):
    """What a person should know of a source."""

    at: datetime = Field(description="When a pass last said so.")
    note: str


class SourceRow(Part):
    """A configured source, and how reading it goes."""

    source: str
    kind: str
    where: str = Field(description="Its file or address.")
    configured: bool = Field(description="False: in the store from earlier, and in preprov.toml no more.")
    pools: list[str] = Field(description="Where its work goes.")
    open: int | None = Field(description="Runs that are not over; null for a file.")
    over: int | None
    read_at: datetime | None = Field(description="When a pass last came to its end.")
    tried_at: datetime | None
    error: str = Field(description="Why the last pass did not come to its end; empty if it did.")
    notes: list[SourceNote] = Field(description="What passes of the last week said, the newest last.")


class Sources(Envelope):
    """source list."""

    sources: list[SourceRow]


class SourceFinding(Part):
    """One thing looked at."""

    source: str
    what: str
    state: str = Field(description="ok, warn or bad.")
    found: str
    hint: str = Field(description="What to do.")


class SourceTest(Envelope):
    """source test."""

    ok: bool
    findings: list[SourceFinding]


class SourcePass(Part):
    """What a pass brought."""

    source: str
    new: int = Field(description="Runs that were not known.")
    changed: int
    same: int
    gone: int = Field(description="Runs that exist there no more.")
    tasks: int = Field(description="Tasks of the runs that were read.")
    unrouted: int = Field(description="Runs with tasks that no route sends to a pool.")
    samples: int = Field(description="Of what tasks used, kept.")
    pools: list[str]
    notes: list[str]
    rejects: int
    rejects_file: str | None
    seconds: float


class SourceSync(Envelope):
    """source sync."""

    passes: list[SourcePass]


class SourceAdded(Envelope):
    """source add."""

    source: str
    file: str = Field(description="The configuration file it was written to.")
    section: str = Field(description="What was written.")
    findings: list[SourceFinding]


class SourceRenamed(Envelope):
    """source rename."""

    source: str = Field(description="What it is called now.")
    before: str


class SourceRemoved(Envelope):
    """source remove."""

    source: str
    runs: int = Field(description="That were dropped.")


class RouteRow(Part):
    """A route, or what no route takes."""

    route: int | None = Field(description="Number of the route in preprov.toml, from 1; null = none matches.")
    pool: str | None
    pattern: str
    tasks: int
    core_hours: float
    share: float = Field(description="Of all core hours looked at.")


class Unmatched(Part):
    """Work that no route takes."""

    source: str
    dag_id: str
    queue: str
    tenant: str
    tasks: int
    core_hours: float


class RouteCheck(Envelope):
    """route check."""

    since: datetime
    routes: list[RouteRow]
    unmatched: list[Unmatched]
    moved: list[Unmatched] = Field(description="Work that these routes send elsewhere than where it was put.")
    core_hours: float
