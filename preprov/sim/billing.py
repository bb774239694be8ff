"""What the simulated cloud bills: per second from launch (or start) on, at least the minimum; standby by its price."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from preprov.contracts import PriceBook
from preprov.model.nodes import Phase
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.model.time import from_epoch
from preprov.sim.machines import FOREVER, RUNNING_PHASES, Machine

_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A machine in one billed state over [start, end), epoch seconds; `end` already holds the minimum billing."""

    node_id: str
    group: str
    state: Standby
    start: float
    end: float
    usd_per_hour: float | None

    @property
    def hours(self) -> float:
        """Billed hours."""
        return (self.end - self.start) / _HOUR


@dataclass(frozen=True, slots=True)
class GroupBill:
    """A group's part of the bill.

    Attributes:
        node_hours: billed hours of running machines, warming included.
        standby_hours: kept hours by state. usd: all of it, None if a price is not known; standby_usd: of standby alone.
    """

    group: str
    node_hours: float = 0.0
    standby_hours: Mapping[Standby, float] = field(default_factory=lambda: MappingProxyType({}))
    usd: float | None = 0.0
    standby_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What a span of time cost, by group."""

    groups: Mapping[str, GroupBill]

    @property
    def node_hours(self) -> float:
        """Billed hours of running machines."""
        return sum(g.node_hours for g in self.groups.values())

    @property
    def standby_hours(self) -> float:
        """Kept hours of machines in standby."""
        return sum(sum(g.standby_hours.values()) for g in self.groups.values())

    @property
    def usd(self) -> float | None:
        """Money; None if a price is not known."""
        parts = [g.usd for g in self.groups.values()]
        return None if any(p is None for p in parts) else sum(p for p in parts if p is not None)


def stretches(machine: Machine, until: float, pool: Pool | None, prices: PriceBook | None) -> Iterator[Stretch]:
    """The billed stretches of one machine up to an instant, oldest first."""
    last = min(machine.ended, until)
    for state, start, end in _merged(machine, last):
        if start >= until:
            return
        if state is Standby.RUNNING:
            usd = _running_price(machine, start, prices)
            end = max(end, start + machine.offering.minimum_billing_s)
        else:
            usd = _standby_price(machine, state, start, pool, prices)
        if end > start:
            yield Stretch(machine.node_id, machine.group, state, start, end, usd)


def _merged(machine: Machine, last: float) -> Iterator[tuple[Standby, float, float]]:
    """(state, start, end) with phases that are billed alike joined."""
    begun, state = machine.phases[0][0], Standby.RUNNING
    for at, phase in machine.phases[1:]:
        new = _billed_as(phase)
        if new is not state:
            yield state, begun, min(at, last)
            begun, state = at, new
    yield state, begun, max(last, begun) if last != FOREVER else begun


def _billed_as(phase: Phase) -> Standby:
    if phase in RUNNING_PHASES:
        return Standby.RUNNING
    return Standby.HIBERNATED if phase is Phase.HIBERNATED else Standby.STOPPED


def _running_price(machine: Machine, at: float, prices: PriceBook | None) -> float | None:
    if prices is None:
        return machine.offering.usd_per_hour
    return prices.usd_per_hour(machine.offering, from_epoch(at))


def _standby_price(
    machine: Machine, state: Standby, at: float, pool: Pool | None, prices: PriceBook | None
) -> float | None:
    if prices is not None:
        return prices.standby_usd_per_hour(machine.offering, state, from_epoch(at))
    return None if pool is None else pool.group(machine.group).standby_usd_per_hour.get(state)


def make_bill(billed: Iterable[Stretch], since: float, until: float) -> Bill:
    """Add up what falls into [since, until)."""
    sums: dict[str, _Sum] = {}
    for s in billed:
        hours = (min(s.end, until) - max(s.start, since)) / _HOUR
        if hours > 0:
            sums.setdefault(s.group, _Sum()).add(s, hours)
    return Bill({name: total.closed(name) for name, total in sorted(sums.items())})


@dataclass
class _Sum:
    """A group's bill while it is added up."""

    node_hours: float = 0.0
    standby: dict[Standby, float] = field(default_factory=dict)
    usd: float = 0.0
    standby_usd: float = 0.0
    unpriced: bool = False

    def add(self, stretch: Stretch, hours: float) -> None:
        usd = (stretch.usd_per_hour or 0.0) * hours
        self.unpriced = self.unpriced or stretch.usd_per_hour is None
        self.usd += usd
        if stretch.state is Standby.RUNNING:
            self.node_hours += hours
        else:
            self.standby[stretch.state] = self.standby.get(stretch.state, 0.0) + hours
            self.standby_usd += usd

    def closed(self, name: str) -> GroupBill:
        known = not self.unpriced
        return GroupBill(
            name, self.node_hours, self.standby, self.usd if known else None, self.standby_usd if known else None
        )
