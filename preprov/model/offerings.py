"""What nodes are made of: standby states, offerings, lead times, what is on their disks."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import Final

import numpy as np

from preprov.model.errors import ConfigError
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef

_Z95: Final = NormalDist().inv_cdf(0.95)


class Standby(StrEnum):
    """The state a node is kept in. COLD means it does not exist and must be launched."""

    RUNNING = "running"
    HIBERNATED = "hibernated"
    STOPPED = "stopped"
    COLD = "cold"


class CapacityType(StrEnum):
    """How the machine is bought."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Offering:
    """Instance type x zone x capacity type, with what it holds and costs.

    Attributes:
        capacity: of the machine. overhead: what the system itself takes.
        usd_per_hour: None = no price known; plans are then made by node-hours.
        minimum_billing_s: a launch is billed at least this long.
    """

    instance_type: str
    capacity: Resources
    zone: str = ""
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    usd_per_hour: float | None = None
    minimum_billing_s: float = 60.0
    overhead: Resources = field(default_factory=Resources)

    @property
    def key(self) -> str:
        """Stable name of the offering."""
        return f"{self.instance_type}/{self.zone or 'any'}/{self.capacity_type}"

    @property
    def allocatable(self) -> Resources:
        """Capacity less overhead."""
        return self.capacity.minus_clamped(self.overhead)


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Time from decision to ready, lognormal with a floor of zero.

    Attributes:
        median_s: median, seconds; 0 = at once. p95_s: 95th percentile.
        observations: how many lie behind it; 0 = as configured.
    """

    median_s: float
    p95_s: float
    observations: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.median_s <= self.p95_s or not math.isfinite(self.p95_s):
            raise ConfigError(f"lead time needs 0 <= median <= p95, got {self.median_s}, {self.p95_s}")

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p95_s / self.median_s) / _Z95 if self.median_s > 0 else 0.0

    def quantile(self, q: float) -> float:
        """Seconds within which a share q is ready; q in (0, 1)."""
        if self.median_s == 0:
            return 0.0
        return self.median_s * math.exp(self.sigma * NormalDist().inv_cdf(q))

    @property
    def mean_s(self) -> float:
        """Expected seconds."""
        return self.median_s * math.exp(self.sigma**2 / 2)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n,) draws in seconds."""
        if self.median_s == 0:
            return np.zeros(n)
        return np.asarray(self.median_s * np.exp(self.sigma * rng.standard_normal(n)))

    def scaled(self, factor: float) -> "LeadTime":
        """The same shape, `factor` times as long."""
        return LeadTime(self.median_s * factor, self.p95_s * factor, self.observations)


NO_LEAD: Final = LeadTime(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Preload:
    """What must be on a node's disk, checked, before it is ready.

    Attributes:
        packages, commands: installed, and run by a shell, in this order, before images and datasets are fetched; on
            nodes of a cloud only, by their user data.
        join: commands run when a node is verified and handed over, not before; on nodes of a cloud only.
        min_read_mb_s: a dataset or image that is read back slower than this has failed; 0 = any speed will do.
    """

    images: tuple[ImageRef, ...] = ()
    datasets: tuple[DatasetRef, ...] = ()
    packages: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    min_read_mb_s: float = 0.0

    @property
    def digest(self) -> str:
        """16 hex digits of what it puts on a disk; what is only run at the hand-over, or checked, does not count."""
        images = [(i.uri, i.digest) for i in self.images]
        datasets = [(d.uri, d.key, d.sha256) for d in self.datasets]
        text = json.dumps([images, datasets, self.packages, self.commands])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def keys(self) -> frozenset[str]:
        """What a node that holds it reports as verified: image digests and dataset keys."""
        return frozenset((*(i.digest or i.uri for i in self.images), *(d.key for d in self.datasets)))

    def merged(self, other: "Preload") -> "Preload":
        """Union, order kept."""
        return Preload(
            tuple(dict.fromkeys(self.images + other.images)),
            tuple(dict.fromkeys(self.datasets + other.datasets)),
            tuple(dict.fromkeys(self.packages + other.packages)),
            tuple(dict.fromkeys(self.commands + other.commands)),
            tuple(dict.fromkeys(self.join + other.join)),
            max(self.min_read_mb_s, other.min_read_mb_s),
        )
