"""The demonstration's clouds: fakes of their APIs, on this machine, with a real agent on each of their machines."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from preprov.contracts import Clock
from preprov.demo.scene import LEADS, POOL, Nodes
from preprov.model.errors import ConfigError
from preprov.model.offerings import Standby

CLOUDS: Final = ("aws", "gcp", "azure")
_EVERY_S: Final = {"aws": 0.4, "gcp": 0.25, "azure": 0.25}
"""Wall seconds between two rounds of the agents."""
_PENDING_S: Final = 4.0
"""Less than any wake takes, so that a machine of the cloud is up when one of this machine would be."""
_PORT: Final = 9411
_REGION: Final = "us-east-1"


class Stage:
    """A clock that can be set: endpoints have to be there before the night begins."""

    speed = 1.0

    def __init__(self) -> None:
        self._clock: Clock | None = None

    def begin(self, clock: Clock) -> None:
        """From now on it is that clock's time."""
        self._clock = clock

    def now(self) -> datetime:
        """The present instant."""
        return self._clock.now() if self._clock else datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        if self._clock:
            self._clock.sleep(seconds)


@dataclass(frozen=True)
class Endpoints:
    """A cloud that answers.

    Attributes:
        nodes: how a pool of it is configured. calls: what it was asked so far.
    """

    nodes: Nodes
    stage: Stage
    calls: Callable[[], int]


@contextmanager
def endpoints(provider: str, home: Path, *, seed: int = 0) -> Iterator[Endpoints]:
    """A fake of that cloud, for as long as the `with`; its machines' disks are below `home`.

    Raises:
        ConfigError: there is no such cloud, or what its fake needs is not installed.
    """
    if provider not in CLOUDS:
        raise ConfigError(f"no cloud {provider!r}", where="--provider", hint=f"local, {', '.join(CLOUDS)}")
    try:
        from preprov.testing.agents import Agents, Ticking
    except ImportError as e:
        raise _missing(provider, e) from e
    settings = {"port": _PORT, "heartbeat_s": 8.0}
    stage = Stage()
    with ExitStack() as stack:
        agents = stack.enter_context(Agents(home, settings, settle=False))
        fake, nodes = {"aws": _aws, "gcp": _gcp, "azure": _azure}[provider](stack, stage, agents)
        fake.lead_s = _leads(seed)
        ticking = stack.enter_context(Ticking(fake.agents, _EVERY_S[provider]))
        yield Endpoints(nodes, stage, lambda: len(fake.calls))
        if ticking.failed is not None:
            raise ticking.failed


def _missing(provider: str, e: ImportError) -> ConfigError:
    return ConfigError(f"the fake of {provider} needs {e.name}", where="--provider", hint="install preprov[testing]")


def _leads(seed: int) -> Callable[[str, Standby, int], float]:
    """A draw that depends on its arguments only, as on local nodes."""

    def lead_s(name: str, came_from: Standby, run: int) -> float:
        drawn = hashlib.sha256(f"{seed}\x1f{name}\x1f{came_from}\x1f{run}".encode()).digest()
        return LEADS[came_from].quantile((int.from_bytes(drawn[:6], "big") + 0.5) / 2**48)

    return lead_s


def _gcp(stack: ExitStack, stage: Stage, agents: Any) -> tuple[Any, Nodes]:
    from preprov.testing.fake_gcp import FakeGcp

    fake = stack.enter_context(FakeGcp(stage, agents=agents))
    fake.add("nodes", "n2-standard-8")
    options = f'project = "{fake.project}"\nzone = "{fake.zone}"\nmig = "nodes"\nendpoint_url = "{fake.url}"\n'
    return fake, Nodes("gcp", "vms", "n2-standard-8", fake.zone, options)


def _azure(stack: ExitStack, stage: Stage, agents: Any) -> tuple[Any, Nodes]:
    from preprov.testing.fake_azure import FakeAzure

    fake = stack.enter_context(FakeAzure(stage, agents=agents))
    fake.add("nodes", "Standard_D8s_v5")
    options = (
        f'subscription = "{fake.subscription}"\nresource_group = "{fake.resource_group}"\nscale_set = "nodes"\n'
        f'endpoint_url = "{fake.url}"\npoll = 0.05\n'
    )
    return fake, Nodes("azure", "vms", "Standard_D8s_v5", "", options)


def _aws(stack: ExitStack, stage: Stage, agents: Any) -> tuple[Any, Nodes]:
    try:
        from preprov.testing.fake_aws import FakeAws
        from preprov.testing.fake_aws_nodes import Times

        times = Times(pending=_PENDING_S)
        fake = stack.enter_context(FakeAws(stage, region=_REGION, agents=agents, times=times))
    except ImportError as e:
        raise _missing("aws", e) from e
    environment = {
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_SESSION_TOKEN": "",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    zone = f"{_REGION}a"
    subnet = next(s.id for s in fake.ec2.describe_subnets() if s.availability_zone == zone)
    fake.ec2.create_launch_template(
        "nodes", "", {"ImageId": "ami-12c6146b", "InstanceType": "m7i.2xlarge"}, {"preprov:pool": POOL}
    )
    options = (
        f'region = "{_REGION}"\nendpoint_url = "{fake.url}"\nlaunch_template = "nodes"\n'
        f'subnets = {{ "{zone}" = "{subnet}" }}\n'
    )
    return fake, Nodes("aws", "vms", "m7i.2xlarge", zone, options, environment)
