"""A group's options for Azure, checked: where it is, which scale set it is, and which standby pool serves it."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from preprov.model.pools import Group, Pool
from preprov.pools.group_options import Options, own_endpoint, read_options

_EXAMPLE: Final = 'options = { subscription = "0000…", resource_group = "night", scale_set = "nodes" }'


@dataclass(frozen=True, slots=True)
class Place:
    """A resource group as it is reached.

    Attributes:
        endpoint: URL instead of Azure's own; asked without credentials, so on this machine only; "" = its own.
        attempts: how often the SDK tries again what may be tried again. poll_s: between looks at an operation.
    """

    subscription: str
    resource_group: str
    endpoint: str = ""
    attempts: int = 5
    poll_s: float = 5.0


class _Raw(Options):
    subscription: str = Field(min_length=1)
    resource_group: str = Field(min_length=1)
    scale_set: str = Field(min_length=1)
    standby_pool: str = ""
    gallery_image: str = Field(default="", pattern=r"^([\w.-]+/[\w.-]+)?$", description="gallery/image definition")
    endpoint_url: str = ""
    attempts: int = Field(default=5, ge=0, le=20)
    poll: float = Field(default=5.0, ge=0, description="seconds")
    fence: float = Field(default=30.0, gt=0, description="seconds")
    settle: float = Field(default=60.0, gt=0, description="seconds")
    shortage_ttl: float = Field(default=180.0, ge=0, description="seconds")


@dataclass(frozen=True, slots=True)
class AzureGroup:
    """A group of a pool with its options.

    Attributes:
        scale_set: name of its flexible scale set. standby_pool: name of the one that serves it; "" = none.
        gallery_image: "gallery/image definition" whose versions are the images baked for it; "" = none are.
        fence_s: how long an agent is waited for to confirm that it begins no more tasks.
        settle_s: how long a launch or start is watched for a lack of machines or quota.
        shortage_ttl_s: how long a lack of machines is remembered.
    """

    pool: Pool
    group: Group
    place: Place
    scale_set: str
    standby_pool: str
    gallery_image: str
    fence_s: float
    settle_s: float
    shortage_ttl_s: float

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.pool.name}/{self.group.name}"

    @property
    def scale_set_id(self) -> str:
        """The scale set as a resource."""
        place = self.place
        root = f"/subscriptions/{place.subscription}/resourceGroups/{place.resource_group}"
        return f"{root}/providers/Microsoft.Compute/virtualMachineScaleSets/{self.scale_set}"


def azure_group(pool: Pool, name: str) -> AzureGroup:
    """Read the options of a group.

    Raises:
        ConfigError: one is missing, unknown or wrong.
    """
    group = pool.group(name)
    raw = read_options(_Raw, pool, group, _EXAMPLE)
    place = Place(
        raw.subscription, raw.resource_group, own_endpoint(raw.endpoint_url, pool, group), raw.attempts, raw.poll
    )
    return AzureGroup(
        pool, group, place, raw.scale_set, raw.standby_pool, raw.gallery_image, raw.fence, raw.settle, raw.shortage_ttl
    )
