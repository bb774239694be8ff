"""Small pools, observations and demand for the planner's tests."""

from datetime import UTC, datetime, timedelta

import numpy as np

from preprov.model.demand import DemandCurve
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards, Mode, Objective, Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.planning.leads import Leads
from preprov.planning.plan import PlanInputs
from preprov.planning.prices import TablePriceBook

NOW = datetime(2025, 10, 30, 0, 0, tzinfo=UTC)
M = Offering("m", Resources(16, 64), usd_per_hour=0.8064)
LEADS = {
    Standby.COLD: LeadTime(180, 420),
    Standby.STOPPED: LeadTime(45, 90),
    Standby.HIBERNATED: LeadTime(20, 45),
}
LADDER = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


def group(name="g", offerings=(M,), states=frozenset({Standby.RUNNING}), **more) -> Group:
    kept = {Standby.STOPPED: 0.011, Standby.HIBERNATED: 0.018}
    return Group(name, "local", tuple(offerings), states, standby_usd_per_hour=kept, lead=LEADS, **more)


def pool(*groups, mode=Mode.FULL, guards=None, objective=None, **more) -> Pool:
    return Pool(
        "p",
        groups or (group(),),
        mode=mode,
        guards=guards or Guards(),
        objective=objective or Objective(),
        horizon_s=more.pop("horizon_s", 6 * 3600),
        **more,
    )


def node(name, phase=Phase.READY, *, group="g", offering=M, age_s=7200.0, in_phase_s=3600.0, **more) -> Node:
    return Node(
        name,
        "p",
        group,
        offering,
        phase,
        NOW - timedelta(seconds=age_s),
        NOW - timedelta(seconds=in_phase_s),
        **more,
    )


def observed(*nodes, complete=True) -> PoolObservation:
    return PoolObservation("p", NOW, tuple(nodes), complete=complete)


def steps(cores, *, samples=40, spread=0.0, step=300, start=NOW, seed=1) -> DemandCurve:
    """`cores` per step in every sample, times a lognormal factor of a sample; 2 GiB a core."""
    cpu = np.asarray(cores, dtype=float)[None, :] * np.exp(
        spread * np.random.default_rng(seed).standard_normal((samples, 1))
    )
    out = np.zeros((*cpu.shape, 5), dtype=np.float32)
    out[:, :, 0], out[:, :, 1] = cpu, 2 * cpu
    return DemandCurve("p", start, start, step, out)


def wave(height=64.0, begin=24, length=12, total=72, base=0.0) -> list[float]:
    """`base` cores, then `height` for `length` steps from step `begin` on."""
    return [height if begin <= i < begin + length else base for i in range(total)]


def claim(claimant, node_id=None, cpu=4.0, begin_s=0.0, length_s=3600.0) -> Reservation:
    start = NOW + timedelta(seconds=begin_s)
    return Reservation(
        f"r-{claimant}",
        "p",
        claimant,
        (Segment(start, start + timedelta(seconds=length_s), Resources(cpu)),),
        ReservationState.COMMITTED if node_id else ReservationState.SOFT,
        node_id=node_id,
        purpose=Purpose.TASK if "#" in claimant else Purpose.BOOKING,
    )


def inputs(demand=None, *nodes, pool_=None, now=NOW, complete=True, **more) -> PlanInputs:
    p = pool_ or pool()
    return PlanInputs(
        pool=p,
        mode=more.pop("mode", p.mode),
        now=now,
        observation=PoolObservation("p", now, nodes, complete=complete),
        demand=demand or steps([0.0] * 72),
        leads=more.pop("leads", Leads(p)),
        prices=more.pop("prices", TablePriceBook.from_pools([p])),
        **more,
    )
