"""Many pools: looked at at the same time, one bad one ends nothing, and what they cost grows with their number only."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.contracts import LeadObservation
from preprov.control.context import Context
from preprov.control.passes import PassResult
from preprov.control.running import Runner
from preprov.model.errors import ThrottledError
from preprov.model.nodes import PoolObservation
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.planning.leads import KEPT, Telling, learn_leads
from tests.unit.control.world import START, World, make_pool, make_world


def many(count: int) -> tuple[World, Context]:
    world = make_world()
    pools = {f"p{i}": replace(world.pool, name=f"p{i}") for i in range(count)}
    return world, replace(world.ctx, pools=pools)


def test_pools_are_looked_at_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are in the cloud at once before any has its answer."""
    world, ctx = many(4)
    together = threading.Barrier(4, timeout=30)
    see = world.cloud.observe
    seen: set[str] = set()

    def observe(pool: Pool) -> PoolObservation:
        if pool.name not in seen:
            seen.add(pool.name)
            together.wait()
        return see(pool)

    monkeypatch.setattr(world.cloud, "observe", observe)
    done: list[PassResult] = []
    Runner(ctx, list(ctx.pools.values()), at_once=4, on_pass=done.append).sweep()
    assert {r.pool for r in done} == set(ctx.pools)


@pytest.mark.parametrize("at_once", [1, 3])
def test_one_bad_pool_ends_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    world, ctx = many(5)
    see = world.cloud.observe

    def observe(pool: Pool) -> PoolObservation:
        if pool.name == "p2":
            raise ThrottledError("slow down", where=pool.name)
        return see(pool)

    monkeypatch.setattr(world.cloud, "observe", observe)
    done: list[PassResult] = []
    Runner(ctx, list(ctx.pools.values()), at_once=at_once, on_pass=done.append).sweep()
    assert {r.pool for r in done} == set(ctx.pools)
    assert [r.pool for r in done if not r.observation.complete] == ["p2"]


def warming(pool: str, number: int, seconds: float, *, image: str = "i") -> LeadObservation:
    at = START + timedelta(seconds=number)
    return LeadObservation(at, pool, "sim", "g", "", "m", image, Standby.COLD, seconds, f"{pool}-{number}")


def test_of_what_other_pools_saw_the_newest_are_learnt_from() -> None:
    pool, now = make_pool(), START + timedelta(hours=1)
    old = [warming("q", i, 500.0) for i in range(KEPT)]
    new = [warming("q", KEPT + i, 50.0) for i in range(KEPT)]
    told = Telling.of([*old, *new]).for_pool(pool)
    assert len(told) == KEPT
    lead = learn_leads(pool, told, now)("g", pool.groups[0].offerings[0], Standby.COLD)
    assert lead.median_s == pytest.approx(50.0, rel=0.1)


def test_few_are_all_learnt_from_as_they_were() -> None:
    pool, now = make_pool(), START + timedelta(hours=1)
    seen = tuple(warming("p", i, 40.0 + i) for i in range(20))
    offering = pool.groups[0].offerings[0]
    assert sorted(o.seconds for o in Telling.of(seen).for_pool(pool)) == [o.seconds for o in seen]
    all_of_them = learn_leads(pool, seen, now)("g", offering, Standby.COLD)
    assert learn_leads(pool, Telling.of(seen).for_pool(pool), now)("g", offering, Standby.COLD) == all_of_them


def test_a_pools_own_image_is_known_though_its_last_warming_is_old() -> None:
    mine = warming("p", 0, 90.0, image="mine")
    others = [warming("q", 1 + i, 50.0, image="mine") for i in range(2 * KEPT)]
    assert mine in Telling.of([mine, *others]).for_pool(make_pool())


def test_a_lack_of_machines_is_heard_of_by_all_pools_at_once() -> None:
    from preprov.control.apply import _remember_lack
    from preprov.control.gathering import current_leads
    from preprov.model.plans import Action, ActionKind

    world, ctx = many(2)
    one, two = ctx.pools.values()
    offering = one.groups[0].offerings[0]
    assert current_leads(ctx, one).available("g", offering)
    launch = Action("a", ActionKind.LAUNCH, world.clock.now(), "g", 1, "wanted", offering=offering.key)
    _remember_lack(ctx, one, launch)
    assert not current_leads(ctx, one).available("g", offering)
    assert not current_leads(ctx, two).available("g", offering), "it had not been asked before"
