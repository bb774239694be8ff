"""The reference node of the published comparisons, and a pool of it: what a pool is taken to be until somebody says.

16 vCPU and 64 GiB; on demand 0.8064, spot 0.3871 USD/h (m7i.4xlarge, us-east-1, 2026-07), billed per second from launch
with a minimum of 60 s; a stopped node costs its 100 GiB disk, a hibernated one its memory image too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from preprov.model.offerings import CapacityType, LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards, Mode, Objective, Pool
from preprov.model.resources import Resources

INSTANCE_TYPE: Final = "m7i.4xlarge"
CAPACITY: Final = Resources(cpu=16.0, memory=64.0)
ON_DEMAND_USD: Final = 0.8064
SPOT_USD: Final = 0.3871
MINIMUM_BILLING_S: Final = 60.0
STANDBY_USD: Final[Mapping[Standby, float]] = MappingProxyType({Standby.STOPPED: 0.011, Standby.HIBERNATED: 0.018})
LEADS: Final[Mapping[Standby, LeadTime]] = MappingProxyType(
    {
        Standby.COLD: LeadTime(180.0, 420.0),
        Standby.STOPPED: LeadTime(45.0, 90.0),
        Standby.HIBERNATED: LeadTime(20.0, 45.0),
    }
)


def reference_offering(capacity_type: CapacityType = CapacityType.ON_DEMAND) -> Offering:
    """The reference node as bought on demand or as spot."""
    return Offering(
        instance_type=INSTANCE_TYPE,
        capacity=CAPACITY,
        capacity_type=capacity_type,
        usd_per_hour=SPOT_USD if capacity_type is CapacityType.SPOT else ON_DEMAND_USD,
        minimum_billing_s=MINIMUM_BILLING_S,
    )


def reference_pool(
    name: str,
    *,
    mode: Mode = Mode.OBSERVE,
    zone: str = "UTC",
    lead_scale: float = 1.0,
    max_nodes: int = 100_000,
    provider: str = "sim",
    shortage_usd_per_core_hour: float = 1.0,
) -> Pool:
    """A pool of one group of reference nodes, all standby states allowed.

    Args:
        name: of the pool.
        mode: how far preprov may act on it; history alone gives no right to act.
        zone: IANA zone of its calendar.
        lead_scale: factor on all lead times.
        max_nodes: limit of the group and guard of the pool.
        provider: who supplies the nodes; "sim" is the in-memory cloud.
        shortage_usd_per_core_hour: price of a core-hour of waiting.
    """
    group = Group(
        name="reference",
        provider=provider,
        offerings=(reference_offering(),),
        standby_states=frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED}),
        max_nodes=max_nodes,
        max_step=max_nodes,
        standby_usd_per_hour=STANDBY_USD,
        lead=MappingProxyType({state: lead.scaled(lead_scale) for state, lead in LEADS.items()}),
    )
    return Pool(
        name=name,
        groups=(group,),
        zone=zone,
        mode=mode,
        objective=Objective(shortage_usd_per_core_hour=shortage_usd_per_core_hour),
        guards=Guards(max_nodes=max_nodes, wave=max(max_nodes, 1)),
    )
