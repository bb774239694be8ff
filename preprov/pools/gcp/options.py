"""A group's options for Google Cloud, checked: where it is, and which managed instance group it is."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from preprov.model.pools import Group, Pool
from preprov.pools.group_options import Options, own_endpoint, read_options

_EXAMPLE: Final = 'options = { project = "acme", zone = "europe-west1-b", mig = "nodes" }'


@dataclass(frozen=True, slots=True)
class Place:
    """A project's zone as it is reached.

    Attributes:
        endpoint: URL instead of Google's own; without credentials, so on this machine only; "" = its own.
        retry_s: seconds within which the SDK tries again what may be tried again.
    """

    project: str
    zone: str
    endpoint: str = ""
    retry_s: float = 60.0

    @property
    def region(self) -> str:
        """The zone's region."""
        return self.zone.rsplit("-", 1)[0]


class _Raw(Options):
    project: str = Field(min_length=1)
    zone: str = Field(min_length=1)
    mig: str = Field(min_length=1)
    all_or_none: bool = False
    endpoint_url: str = ""
    retry: float = Field(default=60.0, gt=0, description="seconds")
    fence: float = Field(default=30.0, gt=0, description="seconds")
    settle: float = Field(default=45.0, gt=0, description="seconds")
    shortage_ttl: float = Field(default=180.0, ge=0, description="seconds")


@dataclass(frozen=True, slots=True)
class GcpGroup:
    """A group of a pool with its options.

    Attributes:
        mig: name of its zonal managed instance group.
        all_or_none: a launch is a resize request, so that all its machines come together or none does.
        fence_s: how long an agent is waited for to confirm that it begins no more tasks.
        settle_s: how long a launch or start is watched for a lack of machines or quota, which the group reports late.
        shortage_ttl_s: how long a lack of machines is remembered.
    """

    pool: Pool
    group: Group
    place: Place
    mig: str
    all_or_none: bool
    fence_s: float
    settle_s: float
    shortage_ttl_s: float

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.pool.name}/{self.group.name}"


def gcp_group(pool: Pool, name: str) -> GcpGroup:
    """Read the options of a group.

    Raises:
        ConfigError: one is missing, unknown or wrong.
    """
    group = pool.group(name)
    raw = read_options(_Raw, pool, group, _EXAMPLE)
    place = Place(raw.project, raw.zone, own_endpoint(raw.endpoint_url, pool, group), raw.retry)
    return GcpGroup(pool, group, place, raw.mig, raw.all_or_none, raw.fence, raw.settle, raw.shortage_ttl)
