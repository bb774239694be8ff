"""Sections that plans are made by: objective, floors, disruption budgets, shared limits, prices."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from preprov.configfile.base import HoursSection, Section, known_zone
from preprov.model.adjusting import Adjusting
from preprov.model.adoption import Gate
from preprov.model.curved import CurvePacking, Probing
from preprov.model.errors import ConfigError
from preprov.model.limits import Account, SharedLimit
from preprov.model.pools import Objective, Pool, Within
from preprov.model.prices import Commitment


class ObjectiveSection(Section):
    """[pool.objective]: what a plan is to reach; a hit rate comes before the price of waiting."""

    shortage_usd_per_core_hour: float = Field(default=1.0, ge=0, description="What an hour of waiting costs, per core.")
    hit_rate: float | None = Field(
        default=None, gt=0, lt=1, description="Share of task instances that start without waiting for a node."
    )
    late_usd_per_minute: float = Field(
        default=0.0, ge=0, description="What each minute costs that a run ends after its land_by; a route may say more."
    )

    def build(self) -> Objective:
        """The domain value."""
        return Objective(self.shortage_usd_per_core_hour, self.hit_rate, self.late_usd_per_minute)


class AccountSection(Section):
    """[account]: what all pools together may have, whatever each of them may."""

    max_nodes: int | None = Field(default=None, ge=0)
    max_usd_per_hour: float | None = Field(default=None, ge=0)
    max_usd_per_day: float | None = Field(default=None, ge=0, description="By the calendar day of each pool's zone.")
    max_launches_per_minute: int | None = Field(default=None, ge=0)

    def build(self) -> Account | None:
        """The domain value; None if nothing is limited."""
        made = Account(self.max_nodes, self.max_usd_per_hour, self.max_usd_per_day, self.max_launches_per_minute)
        return None if made == Account() else made


class GateSection(Section):
    """[pool.gate]: what a pool has to show before preprov may raise on it, and before it may lower. 0 opens it."""

    floor_nights: int = Field(default=3, ge=0, description="Nights observed before mode floor.")
    full_nights: int = Field(default=7, ge=0, description="Nights observed before mode full.")
    coverage: float = Field(
        default=0.7, ge=0, le=1, description="Least share of what came inside the 80 % interval of forecasts."
    )

    def build(self) -> Gate:
        """The domain value."""
        return Gate(self.floor_nights, self.full_nights, self.coverage)


class AdjustSection(Section):
    """[pool.adjust]: what running tasks may use follows what they use. Left out: it does not."""

    increase: bool = Field(default=True, description="Give a task more before it is short of it.")
    decrease: bool = Field(default=True, description="Take from a task what it does not use.")
    headroom: float = Field(default=0.25, gt=0, description="Share of what is in use, allocated on top of it.")
    tolerance: float = Field(default=0.2, gt=0, lt=1, description="Share of an allocation that is not worth a change.")
    calm: float = Field(default=60.0, gt=0, description="Seconds of too much before anything is taken.")
    every: float = Field(default=10.0, ge=0, description="Least seconds between two changes of one task.")
    ahead: float = Field(default=30.0, gt=0, description="How far curve and growth of memory are looked ahead, s.")
    most: float = Field(default=4.0, ge=1, description="No task gets more than so many times its request.")
    unseen: float = Field(default=0.5, ge=0, le=1, description="Share of its memory a task without past runs keeps.")
    move: bool = Field(default=True, description="End a task whose memory has no room to grow; it goes on elsewhere.")
    signal: Literal["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP"] = Field(
        default="SIGUSR2", description="Tells a task to keep what it has done before it has to go elsewhere."
    )
    grace: float = Field(default=30.0, gt=0, description="Seconds it has for that.")
    pending: bool = Field(
        default=False, description="Have jobs that wait in Slurm ask for what their past runs say; in mode full only."
    )

    def build(self) -> Adjusting:
        """The domain value."""
        return Adjusting(
            self.increase,
            self.decrease,
            self.headroom,
            self.tolerance,
            self.calm,
            self.every,
            self.ahead,
            self.most,
            self.unseen,
            self.move,
            self.signal,
            self.grace,
            self.pending,
        )


class CurvesSection(Section):
    """[pool.curves]: reservations follow what past runs used over time, and peaks that do not meet share a node."""

    packing: bool = Field(default=False, description="Reserve by curve, and pack in time; false: by requests.")
    quantile: float = Field(default=0.9, ge=0.5, lt=1, description="Of cores, that is reserved; of memory .99 or more.")
    meeting: float = Field(
        default=0.01, ge=0, lt=0.5, description="Largest chance that peaks meet on a node; of memory a tenth. 0 = none."
    )
    margin: float = Field(default=0.1, ge=0, description="Share of the curve, reserved on top of it.")
    steps: int = Field(default=4, ge=1, le=16, description="Segments of a reservation.")
    runs: int = Field(default=8, ge=3, description="Watched runs of the very same code that a curve is trusted from.")
    late: float = Field(default=5.0, ge=0, description="Seconds that a start is late, on average.")

    def build(self) -> CurvePacking | None:
        """The domain value; None if packing is off."""
        if not self.packing:
            return None
        return CurvePacking(self.quantile, self.meeting, self.margin, self.steps, self.runs, self.late)


class ProbeSection(Section):
    """[pool.probe]: tasks that name a probe are tried on a sample first, where that pays. Left out: none is."""

    failure: float = Field(default=2.0, ge=0, description="What a failed attempt counts; 1 = what it cost.")
    worth: float = Field(default=1.0, ge=0, description="A probe must be worth so many times what it costs.")

    def build(self) -> Probing:
        """The domain value."""
        return Probing(self.failure, self.worth)


class WithinSection(HoursSection):
    """[[pool.floor]]: nodes that run within these hours; [[pool.disruption]]: at most so many are given up at once."""

    nodes: int = Field(ge=0, description="Of a budget: on their way down, or given up within the last minute.")
    zone: str = Field(default="", description="Zone of the hours; the pool's if left out.")
    _check_zone = field_validator("zone")(lambda v: v and known_zone(v))

    def build(self) -> Within:
        """The domain value."""
        return Within(self.nodes, self.hours(), self.zone)


class LimitSection(Section):
    """[[limit]]: a quota or a budget of several pools together."""

    name: str
    pools: list[str] = Field(default_factory=list, description="All groups of these pools.")
    groups: list[str] = Field(default_factory=list, description="Groups, each as pool/group.")
    max_nodes: int | None = Field(default=None, ge=0)
    max_cpu: float | None = Field(default=None, ge=0, description="Cores of whole machines: a vendor's vCPU quota.")
    max_usd_per_day: float | None = Field(default=None, ge=0, description="Of whole pools.")

    def build(self, pools: Mapping[str, Pool]) -> SharedLimit:
        """The domain value.

        Raises:
            ConfigError: it names what is not there, or a budget of single groups.
        """
        where = f"[[limit]] {self.name}"
        if self.max_usd_per_day is not None and self.groups:
            raise ConfigError("a budget is of whole pools", where=where, hint="name pools instead of groups")
        named = [(p, g.name) for p in self.pools for g in _pool(pools, p, where).groups]
        for text in self.groups:
            pool, _, group = text.partition("/")
            named.append((pool, _pool(pools, pool, where).group(group).name))
        return SharedLimit(
            self.name, frozenset(named), self.max_nodes, self.max_cpu, frozenset(self.pools), self.max_usd_per_day
        )


def _pool(pools: Mapping[str, Pool], name: str, where: str) -> Pool:
    if name not in pools:
        known = ", ".join(sorted(pools)) or "none"
        raise ConfigError(f"there is no pool {name!r}", where=where, hint=f"pools: {known}")
    return pools[name]


class CommitmentSection(Section):
    """[[prices.commitment]]: what a savings plan or committed use takes off on-demand prices."""

    discount: float = Field(ge=0, lt=1, description="Share, such as 0.28.")
    type: str = Field(default="*", description="Instance types, a pattern such as m7i.*")
    zone: str = Field(default="*", description="Zones, a pattern such as us-east-1*")
    until: datetime | None = Field(default=None, description="Its end; in the controller's zone if it has no offset.")

    def build(self, zone: str) -> Commitment:
        """The domain value."""
        until = self.until if self.until is None or self.until.tzinfo else self.until.replace(tzinfo=ZoneInfo(zone))
        return Commitment(self.discount, self.type, self.zone, until)


class PricesSection(Section):
    """[prices]: a table, commitments, and how often clouds are asked. What they said comes before the table."""

    table: Path | None = Field(default=None, description="Parquet or CSV: instance_type, region, on_demand_usd_h, …")
    shipped: bool = Field(default=False, description="Use the small table that comes with preprov.")
    refresh: float = Field(
        default=0.0, ge=0, description="Seconds between questions to clouds in `preprov up`; 0 = only when asked to."
    )
    commitment: list[CommitmentSection] = Field(default_factory=list)
