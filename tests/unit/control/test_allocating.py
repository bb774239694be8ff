"""Everything that can be held, whatever its type: seen in one list, and changed by hand within the same rules."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from preprov.contracts import Holding, Unit
from preprov.control.allocating import types
from preprov.control.allocating.by_hand import bind, give_back, resize, units
from preprov.control.allocating.gpus import Gpus
from preprov.model.adjusting import Adjusting
from preprov.model.agent import Gpu
from preprov.model.errors import ConfigError, ConflictError, OverbookedError, RefusedError, ReservationError
from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Offering
from preprov.model.plans import ActionKind
from preprov.model.pools import Group
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import World, dag, make_pool, make_world, task


def running(**pool: object) -> World:
    """One task of two cores that runs."""
    world = make_world(make_pool(**pool))
    world.ctx = replace(world.ctx, schedulers={"sim": AdjustableSim(world.clock, world.cloud)})
    world.submit(dag("d", task("t", seconds=3600, cpu=2)))
    world.run_for(240)
    return world


def of_task(world: World):
    (claim,) = world.ctx.ports.ledger.reservations("p")
    assert claim.state is ReservationState.COMMITTED
    return claim


def test_one_list_of_all_types():
    world = running()
    claim = of_task(world)
    found = units(world.ctx, world.pool)
    assert {u.kind for u in found} == {"vm", "process"}
    (node,) = [u for u in found if u.node_id == claim.node_id and u.kind == "vm"]
    (process,) = units(world.ctx, world.pool, "process")
    assert (node.holding, node.holders) == (Holding.ALLOCATED, (claim.claimant,))
    assert (process.name, process.node_id, process.amount["cpu"]) == (claim.claimant, claim.node_id, 2)
    assert units(world.ctx, world.pool, "volume") == ()
    with pytest.raises(ConfigError, match="tape"):
        units(world.ctx, world.pool, "tape")


def test_a_running_task_is_resized_by_hand_and_kept_so():
    world = running(adjusting=Adjusting(decrease=False))
    claim = of_task(world)
    after = resize(world.ctx, claim.reservation_id, {"memory": 3.0})
    assert (after.most.cpu, after.most.memory) == (2, 3)
    assert world.ctx.schedulers["sim"].limits[claim.claimant].memory == 3
    (row,) = [r for r in world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.RESIZE]
    assert (row.actor, row.action.task) == ("test", claim.claimant)
    assert row.action.numbers["memory_after"] == 3
    with pytest.raises(OverbookedError):
        resize(world.ctx, claim.reservation_id, {"memory": 300.0})
    world.run_for(300)
    assert of_task(world).most.memory == 3
    assert world.ctx.schedulers["sim"].limits[claim.claimant].memory == 3


def test_what_cannot_be_done_by_hand_says_why():
    world = running()
    claim = of_task(world)
    with pytest.raises(RefusedError, match="changes nothing that runs"):
        resize(world.ctx, claim.reservation_id, {"memory": 3.0})
    with pytest.raises(ReservationError, match="has begun") as refused:
        give_back(world.ctx, claim.reservation_id, "")
    assert refused.value.hint == f"preprov run cancel {claim.claimant.partition('/')[0]}"
    with pytest.raises(ReservationError, match="no reservation"):
        give_back(world.ctx, "nothing", "")
    with pytest.raises(ReservationError, match="no node"):
        bind(world.ctx, claim.reservation_id, "nowhere")
    assert of_task(world) == claim


def test_a_node_that_sleeps_takes_no_booking():
    world = running()
    claim = of_task(world)
    world.cloud.drain(world.pool, [claim.node_id])
    booking = replace(claim, reservation_id="b", claimant="b", purpose="booking", node_id=None)
    booking = replace(booking, state=ReservationState.SOFT, expires_at=claim.end)
    types.type_of(world.ctx, world.pool, booking).reserve(world.pool, booking)
    with pytest.raises(ConflictError, match="draining"):
        bind(world.ctx, "b", claim.node_id)
    assert give_back(world.ctx, "b", "enough").state is ReservationState.RELEASED


def test_devices_that_agents_see_are_units():
    offering = Offering("m", Resources(cpu=4, memory=16, gpu=2), usd_per_hour=0.2)
    world = make_world(make_pool(groups=(Group("g", "sim", (offering,), max_nodes=2),)))
    spec = replace(task("t", seconds=3600), request=Resources(cpu=1, gpu=1))
    world.submit(dag("d", spec))
    world.run_for(480)
    claim = of_task(world)
    declared = [u for u in units(world.ctx, world.pool, "gpu") if u.node_id == claim.node_id]
    assert [u.holding for u in declared] == [Holding.RESERVED, Holding.FREE]

    seen = (Gpu("GPU-a", "A", 80.0), Gpu("GPU-b", "A", 80.0, "lost"), Gpu("GPU-c", "A", claimant=claim.claimant))

    class Provider:
        def observe(self, pool):
            found = world.cloud.observe(pool)
            nodes = tuple(replace(n, devices=seen) for n in found.nodes if n.node_id == claim.node_id)
            return PoolObservation(pool.name, found.at, nodes)

    ctx = replace(world.ctx, providers={"sim": Provider()})
    a, b, c = Gpus(ctx).observe(world.pool)
    assert (a.name, a.holding, dict(a.amount)) == ("GPU-a", Holding.FREE, {"gpu": 1.0, "gpu_memory": 80.0})
    assert (b.holding, b.detail) == (Holding.FREE, "A: lost")
    assert (c.holding, c.holders) == (Holding.ALLOCATED, (claim.claimant,))


class Tape:
    """A third party's."""

    kind = "tape"

    def __init__(self, ports, clock) -> None:
        self.ports, self.clock = ports, clock

    def observe(self, pool):
        return (Unit("tape", "t1", pool.name),)

    def reserve(self, pool, claim):
        raise RefusedError("not today")

    allocate = resize = release = reserve


class Half:
    """One that lacks verbs."""

    kind = "half"

    def __init__(self, ports, clock) -> None:
        pass


class Second(Tape):
    """One that takes a name that is taken."""

    kind = "vm"


@pytest.mark.parametrize(("what", "why"), [("Half", "lacks a verb"), ("Second", "vm is taken"), ("Absent", "loaded")])
def test_a_third_partys_type_that_cannot_be_used_is_named(what: str, why: str, monkeypatch: pytest.MonkeyPatch):
    point = EntryPoint("mine", f"{__name__}:{what}", types.GROUP)
    monkeypatch.setattr(types, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=why):
        types.resource_types(make_world().ctx)


def test_a_third_partys_type_is_one_more(monkeypatch: pytest.MonkeyPatch):
    point = EntryPoint("mine", f"{__name__}:Tape", types.GROUP)
    monkeypatch.setattr(types, "entry_points", lambda group: [point])
    world = make_world()
    (tape,) = units(world.ctx, world.pool, "tape")
    assert (tape.name, tape.holding) == ("t1", Holding.FREE)
