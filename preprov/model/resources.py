"""Resources: the five quantities that travel together. Standard library only (the agent uses it)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

KINDS: Final = ("cpu", "memory", "gpu", "disk_io", "network")
UNITS: Final[Mapping[str, str]] = {
    "cpu": "cores",
    "memory": "GiB",
    "gpu": "devices",
    "disk_io": "MB/s",
    "network": "MB/s",
}
_EPS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Resources:
    """Five non-negative, finite amounts.

    Attributes:
        cpu: cores.
        memory: GiB.
        gpu: devices.
        disk_io: MB/s.
        network: MB/s.

    Raises:
        ValueError: an amount is negative, infinite or not a number.
    """

    cpu: float = 0.0
    memory: float = 0.0
    gpu: float = 0.0
    disk_io: float = 0.0
    network: float = 0.0

    def __post_init__(self) -> None:
        for name, value in zip(KINDS, self.as_tuple(), strict=True):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value!r}")

    @classmethod
    def of(cls, values: Mapping[str, float] | Iterable[float]) -> Self:
        """Build from a mapping by name or from five numbers in the order of KINDS."""
        if isinstance(values, Mapping):
            unknown = set(values) - set(KINDS)
            if unknown:
                raise ValueError(f"unknown resource {sorted(unknown)}; known: {', '.join(KINDS)}")
            return cls(**{k: float(v) for k, v in values.items()})
        return cls(*(float(v) for v in values))

    def as_tuple(self) -> tuple[float, float, float, float, float]:
        """The amounts in the order of KINDS."""
        return (self.cpu, self.memory, self.gpu, self.disk_io, self.network)

    def as_dict(self) -> dict[str, float]:
        """The amounts by name."""
        return dict(zip(KINDS, self.as_tuple(), strict=True))

    # Written out by name: a pass makes thousands of these.

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.cpu + other.cpu,
            self.memory + other.memory,
            self.gpu + other.gpu,
            self.disk_io + other.disk_io,
            self.network + other.network,
        )

    def __sub__(self, other: Self) -> Self:
        """Difference; rounding dust below 1e-9 becomes 0, anything more negative is an error."""
        out = []
        for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True):
            d = a - b
            out.append(0.0 if -1e-6 < d < _EPS else d)
        return type(self)(*out)

    def __mul__(self, factor: float) -> Self:
        return type(self)(*(a * factor for a in self.as_tuple()))

    __rmul__ = __mul__

    def maximum(self, other: Self) -> Self:
        """Element-wise maximum."""
        return type(self)(*(max(a, b) for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def minimum(self, other: Self) -> Self:
        """Element-wise minimum."""
        return type(self)(*(min(a, b) for a, b in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def minus_clamped(self, other: Self) -> Self:
        """Difference, never below zero."""
        return type(self)(
            max(self.cpu - other.cpu, 0.0),
            max(self.memory - other.memory, 0.0),
            max(self.gpu - other.gpu, 0.0),
            max(self.disk_io - other.disk_io, 0.0),
            max(self.network - other.network, 0.0),
        )

    def fits_in(self, room: Self, binding: Iterable[str] = KINDS) -> bool:
        """True if every binding amount is within `room` (rounding dust allowed)."""
        return all(getattr(self, k) <= getattr(room, k) + _EPS for k in binding)

    def share_of(self, whole: Self, binding: Iterable[str] = KINDS) -> float:
        """Largest share of `whole` over the binding resources; inf where whole has none of what is wanted."""
        best = 0.0
        for k in binding:
            want, have = getattr(self, k), getattr(whole, k)
            if want > 0:
                best = max(best, want / have if have > 0 else math.inf)
        return best

    @property
    def is_zero(self) -> bool:
        """True if nothing is wanted."""
        return not any(self.as_tuple())


ZERO: Final = Resources()


def sum_of(amounts: Iterable[Resources]) -> Resources:
    """All of them together."""
    total = ZERO
    for amount in amounts:
        total = total + amount
    return total
