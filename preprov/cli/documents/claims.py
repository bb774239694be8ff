"""Documents of the commands about claims, and about who may make them."""

from datetime import datetime

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class ReservationSegment(Part):
    """A constant claim."""

    start: datetime
    end: datetime
    cpu: float
    memory: float
    gpu: float
    disk_io: float
    network: float


class ClaimedVolume(Part):
    """A storage volume that is claimed."""

    name: str
    gib: float = Field(description="What it has; at the least, until it is bound.")
    keep: bool = Field(description="False: its release deletes it.")


class ClaimedUnits(Part):
    """Units of a resource type that counts in its own terms."""

    kind: str
    amount: dict[str, float] = Field(description="What it has; what it is to have, until it is bound.")


class ReservationRow(Part):
    """A reservation."""

    reservation_id: str
    pool: str
    claimant: str
    state: str
    tenant: str
    priority: int
    purpose: str = Field(description="task, booking, window, volume or units.")
    gang: str = Field(description="Reservations of one gang are made and committed all or none; empty = it is alone.")
    node_id: str | None
    expires_at: datetime | None
    segments: list[ReservationSegment]
    volume: ClaimedVolume | None = Field(description="Of purpose volume.")
    units: ClaimedUnits | None = Field(description="Of purpose units.")
    reason: str


class Reservations(Envelope):
    """reservation list."""

    reservations: list[ReservationRow]
    next: str | None = Field(description="There are more: `--after` this lists them. Null: these are all.")


class OneReservation(Envelope):
    """reservation create, reservation commit, reservation resize, reservation release."""

    reservation: ReservationRow


class UnitRow(Part):
    """One thing of a resource type."""

    kind: str = Field(description="vm, process, container, job, gpu, volume, or a third party's.")
    name: str
    node_id: str = Field(description="Where it is; empty = nowhere yet.")
    holding: str = Field(description="free, reserved or allocated.")
    amount: dict[str, float] = Field(description="What it has, or may use: cores, GiB, devices, MB/s.")
    holders: list[str]
    detail: str


class Units(Envelope):
    """reservation units."""

    units: list[UnitRow]


class WindowRow(Part):
    """A recurring window."""

    window_id: str
    name: str
    pool: str
    tenant: str
    request: dict[str, float] = Field(description="Of one instance.")
    count: int
    start: str = Field(description="Time of day on the wall clock of tz.")
    end: str
    tz: str
    days: list[str]
    lead_s: float = Field(description="Seconds before its start by which it is warm.")
    borrow: bool
    reclaim_s: float
    priority: int
    since: datetime | None = Field(description="No turn starts before.")
    until: datetime | None = Field(description="No turn starts then or later.")


class OneWindow(Envelope):
    """reservation window add."""

    window: WindowRow


class Windows(Envelope):
    """reservation window list."""

    windows: list[WindowRow]


class RemovedWindow(Envelope):
    """reservation window remove."""

    removed: str


class TokenRow(Part):
    """A token, without its secret."""

    token_id: str
    tenant: str
    scopes: list[str]
    pools: list[str] = Field(description="Empty: all.")
    node_id: str = Field(description="The node that a token of scope node speaks for.")
    note: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None


class MadeToken(Envelope):
    """token create."""

    token: str = Field(description="How it is shown to the API. It is printed here and nowhere else.")
    about: TokenRow


class Tokens(Envelope):
    """token list."""

    tokens: list[TokenRow]


class OneToken(Envelope):
    """token revoke."""

    about: TokenRow
