"""A group's options for AWS, checked: where it is, and what its nodes are launched with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from preprov.model.errors import ConfigError
from preprov.model.pools import Group, Pool
from preprov.pools.group_options import Options, read_options, where_of


@dataclass(frozen=True, slots=True)
class Place:
    """An account's region as it is reached; pools of one place are listed together.

    Attributes:
        endpoint: URL instead of AWS's own, for all services. profile: of the credentials file; "" = default chain.
        attempts: how often the SDK tries a call that may be tried again. adaptive: it also slows down by itself.
    """

    region: str
    endpoint: str = ""
    profile: str = ""
    attempts: int = 5
    adaptive: bool = False


class _Raw(Options):
    region: str
    endpoint_url: str = ""
    profile: str = ""
    attempts: int = Field(default=5, ge=1, le=20)
    adaptive: bool = False
    asg: str = ""
    launch_template: str = ""
    launch_template_version: str = "$Default"
    subnets: dict[str, str] = Field(default_factory=dict)
    queue_url: str = ""
    fence: float = Field(default=30.0, gt=0, description="seconds")
    shortage_ttl: float = Field(default=180.0, ge=0, description="seconds")


@dataclass(frozen=True, slots=True)
class AwsGroup:
    """A group of a pool with its options.

    Attributes:
        asg: name of its Auto Scaling group; "" = its nodes are launched by instant fleets from the launch template.
        subnets: zone -> subnet id.
        queue_url: SQS queue to which EventBridge sends interruption and rebalance notices; "" = none.
        fence_s: how long an agent is waited for to confirm that it begins no more tasks.
        shortage_ttl_s: how long a lack of machines is remembered.
    """

    pool: Pool
    group: Group
    place: Place
    asg: str
    template: str
    version: str
    subnets: Mapping[str, str] = field(default_factory=dict)
    queue_url: str = ""
    fence_s: float = 30.0
    shortage_ttl_s: float = 180.0

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.pool.name}/{self.group.name}"

    @property
    def template_spec(self) -> dict[str, str]:
        """The launch template as the API wants it."""
        name = "LaunchTemplateId" if self.template.startswith("lt-") else "LaunchTemplateName"
        return {name: self.template, "Version": self.version}


_EXAMPLE: Final = 'options = { region = "eu-central-1", asg = "nodes" }'


def aws_group(pool: Pool, name: str) -> AwsGroup:
    """Read the options of a group.

    Raises:
        ConfigError: one is missing, unknown or wrong.
    """
    group = pool.group(name)
    raw = read_options(_Raw, pool, group, _EXAMPLE)
    if bool(raw.asg) == bool(raw.launch_template):
        raise ConfigError("name either an asg or a launch_template", where=where_of(pool, group), hint=_EXAMPLE)
    return AwsGroup(
        pool=pool,
        group=group,
        place=Place(raw.region, raw.endpoint_url, raw.profile, raw.attempts, raw.adaptive),
        asg=raw.asg,
        template=raw.launch_template,
        version=raw.launch_template_version,
        subnets=raw.subnets,
        queue_url=raw.queue_url,
        fence_s=raw.fence,
        shortage_ttl_s=raw.shortage_ttl,
    )
