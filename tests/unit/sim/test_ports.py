"""The other ports in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from preprov.contracts import LeadObservation, PoolSnapshot, Ports
from preprov.model.agent import Usage
from preprov.model.demand import DemandCurve
from preprov.model.errors import LeaseHeldError, OverbookedError, ReservationError, StoreError, UnsafeModelError
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, CapacityPlan
from preprov.model.pools import Mode, Override
from preprov.model.reservations import Reservation, ReservationState, Segment
from preprov.model.resources import ZERO, Resources
from preprov.sim.ports import memory_ports

T0 = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ports() -> Ports:
    return memory_ports()


def claim(name: str, cpu: float, start: int = 0, end: int = 10) -> Reservation:
    segment = Segment(T0 + start * MINUTE, T0 + end * MINUTE, Resources(cpu=cpu))
    return Reservation(f"id-{name}", "p", name, (segment,), expires_at=T0 + end * MINUTE)


def test_the_ledger_never_overbooks_a_node(ports: Ports):
    ledger, room = ports.ledger, Resources(cpu=4)
    for name, cpu in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
        ledger.reserve(claim(name, cpu))
    assert ledger.commit("id-a", "n1", room, T0).node_id == "n1"
    assert ledger.commit("id-a", "n1", room, T0).node_id == "n1"
    with pytest.raises(OverbookedError):
        ledger.commit("id-b", "n1", room, T0)
    ledger.commit("id-c", "n1", room, T0)
    with pytest.raises(ReservationError):
        ledger.commit("id-a", "n2", room, T0)
    ledger.release("id-a")
    ledger.release("id-a")
    ledger.commit("id-b", "n1", room, T0)
    assert [r.claimant for r in ledger.reservations("p", node_id="n1")] == ["b", "c"]
    assert len(ledger.reservations("p", live=False)) == 3
    for call in (lambda: ledger.release("none"), lambda: ledger.commit("none", "n1", room, T0)):
        with pytest.raises(ReservationError):
            call()


def test_one_live_reservation_per_claimant_and_soft_ones_expire(ports: Ports):
    ledger = ports.ledger
    first = ledger.reserve(claim("a", 1))
    assert ledger.reserve(replace(claim("a", 2), reservation_id="other")) == first
    with pytest.raises(OverbookedError):
        ledger.reserve(claim("b", 4), Resources(cpu=4))
    assert ledger.reserve(claim("b", 4, 10, 20), Resources(cpu=4)).claimant == "b"
    assert ledger.expire("p", T0 + 10 * MINUTE) == 1
    assert ledger.expire("p", T0 + 10 * MINUTE) == 0
    (gone,) = [r for r in ledger.reservations(live=False) if r.claimant == "a"]
    assert gone.state is ReservationState.EXPIRED
    with pytest.raises(ReservationError):
        ledger.reserve(claim("a", 1))
    assert ledger.reserve(replace(claim("a", 1), reservation_id="again")).is_live


def test_leases_are_exclusive_and_expire(ports: Ports):
    with ports.leases.hold("p", "me", 60, T0), ports.leases.hold("q", "me", 60, T0):
        with pytest.raises(LeaseHeldError), ports.leases.hold("p", "you", 60, T0 + timedelta(seconds=59)):
            pass
        with ports.leases.hold("p", "you", 60, T0 + MINUTE):
            pass
    with ports.leases.hold("p", "you", 60, T0):
        pass


def test_models_have_one_champion_and_no_pickles(ports: Ports):
    models = ports.models
    first = models.save("p", "k", "skops", b"PK1", at=T0, metrics={"wql": 1.0})
    second = models.save("p", "k", "skops", b"PK2", at=T0 + MINUTE, metrics={})
    assert (first.champion, second.champion) == (True, False)
    assert models.promote(second.version, at=T0, reason="better").reason == "better"
    loaded = models.load("p", "k")
    assert loaded is not None
    assert loaded[1] == b"PK2"
    assert [v.version for v in models.versions("p")] == [second.version, first.version]
    assert models.load("p", "other") is None
    assert models.load("p", "k", "nope") is None
    with pytest.raises(StoreError):
        models.promote("nope", at=T0, reason="")
    for fmt, blob in (("pickle", b"x"), ("skops", b"\x80\x04K\x01.")):
        with pytest.raises(UnsafeModelError):
            models.save("p", "k", fmt, blob, at=T0, metrics={})


def record(at: datetime, node: str = "n1", action_id: str = "a1") -> ActionRecord:
    action = Action(action_id, ActionKind.STOP, at, "g", 1, "because", node_ids=(node,))
    return ActionRecord(action, "p", "plan", "me", at, "done", node_ids=(node,))


def test_audit_rows_are_found_in_time_order(ports: Ports):
    for minutes, node in ((2, "n2"), (0, "n1"), (1, "n1")):
        ports.audit.record(record(T0 + minutes * MINUTE, node, f"a{minutes}"))
    assert [r.action.action_id for r in ports.audit.records("p")] == ["a0", "a1", "a2"]
    assert len(ports.audit.records(since=T0 + MINUTE)) == 2
    assert len(ports.audit.records(node_id="n1")) == 2
    assert len(ports.audit.records(action_id="a2")) == 1
    assert ports.audit.records("q") == ()


def test_forecasts_plans_leads_history_samples(ports: Ports):
    def curve(at: datetime) -> DemandCurve:
        return DemandCurve("p", at, at, 300, np.zeros((1, 2, 5), dtype=np.float32))

    first = ports.forecasts.save(curve(T0))
    assert ports.forecasts.save(curve(T0)) == first
    second = ports.forecasts.save(curve(T0 + MINUTE))
    latest = ports.forecasts.latest("p", T0)
    assert latest is not None
    assert latest[0] == first
    assert (ports.forecasts.latest("p") or ("",))[0] == second
    assert ports.forecasts.get("none") is None

    for i in range(3):
        at = T0 + i * MINUTE
        ports.plans.save(CapacityPlan(f"plan{i}", "p", Mode.FULL, at, at + MINUTE, ()))
    assert (ports.plans.latest("p") or ports.plans.get("plan0")).plan_id == "plan2"
    assert ports.plans.get("plan") is None
    assert ports.plans.get("plan1") is not None
    kept = memory_ports(keep_plans=1).plans
    for i in range(2):
        kept.save(CapacityPlan(f"plan{i}", "p", Mode.FULL, T0, T0, ()))
    assert kept.get("plan0") is None

    lead = LeadObservation(T0, "p", "sim", "g", "", "m", "", Standby.COLD, 10.0, "n1")
    ports.leads.add(lead)
    ports.leads.add(lead)
    assert ports.leads.observations("sim") == (lead,)
    assert ports.leads.observations("aws") == ports.leads.observations(since=T0 + MINUTE) == ()

    def snapshot(at: datetime, target: int) -> PoolSnapshot:
        return PoolSnapshot("p", at, {}, ZERO, ZERO, 1.0, target, ZERO)

    for at, target in ((T0 + MINUTE, 1), (T0, 0), (T0 + MINUTE, 2)):
        ports.history.record(snapshot(at, target))
    assert [s.target for s in ports.history.snapshots("p")] == [0, 2]
    assert [s.target for s in ports.history.snapshots("p", since=T0, until=T0)] == [0]

    assert ports.samples.append("p", [("r/t#0", Usage(2.0, cpu=1.0)), ("r/t#0", Usage(1.0, cpu=2.0))]) == 2
    assert [u.at for u in ports.samples.samples("r/t#0")] == [1.0, 2.0]


def test_votes_and_what_people_asked_for(ports: Ports):
    ports.votes.replace("p", {"n1": T0})
    ports.votes.replace("p", {"n2": T0})
    assert ports.votes.votes("p") == {"n2": T0}
    intent = ports.intent
    assert intent.halted() == ""
    intent.set_halt("fire", actor="me", at=T0)
    assert intent.halted() == "fire"
    intent.set_mode("p", Mode.FULL, T0 + MINUTE, actor="me", at=T0)
    assert intent.mode("p", T0) is Mode.FULL
    assert intent.mode("p", T0 + MINUTE) is None
    floor = Override("p", 3, T0, T0 + MINUTE, "launch day")
    intent.add_override(floor)
    intent.add_override(floor)
    assert intent.overrides("p", T0) == (floor,)
    assert intent.overrides("p", T0 + MINUTE) == ()
    intent.set_drain("p", ["n1"])
    assert intent.drains("p") == {"n1"}
