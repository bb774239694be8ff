"""Guards, just before each call: of the pool and of the whole account, what one pass has begun counted with them."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from preprov.control.guarding import check_guards, within_guards
from preprov.control.observing import observe
from preprov.control.orphans import collect_orphans
from preprov.control.passes import pool_pass
from preprov.control.waves import in_parts
from preprov.doctor import teardowns
from preprov.model.errors import GuardError, PoolError
from preprov.model.limits import Account
from preprov.model.plans import Action, ActionKind, ActionRecord
from preprov.model.pools import Guards, Pool
from preprov.model.resources import Resources
from tests.unit.control.world import START, World, make_pool, make_world


def launch(count: int, action_id: str = "a", group: str = "g") -> Action:
    return Action(action_id, ActionKind.LAUNCH, START, group, count, "wanted", offering="m/any/on_demand")


def two_pools(account: Account) -> tuple[World, World]:
    """Two pools of one account, over one store and cloud."""
    one = make_world()
    pools = {name: replace(one.pool, name=name) for name in ("p", "q")}
    ctx = replace(one.ctx, pools=pools, account=account)
    return tuple(replace(one, ctx=ctx, pool=pool) for pool in pools.values())  # type: ignore[return-value]


def wave(world: World, nodes: int) -> list[ActionRecord]:
    """A pass while work for so many nodes waits."""
    waiting = Resources(cpu=4.0 * nodes, memory=4.0 * nodes)
    result = pool_pass(world.ctx, world.pool, serve=False, waiting=waiting)
    return [r for r in result.records if r.action.kind is ActionKind.LAUNCH]


@pytest.mark.parametrize(
    ("account", "name"),
    [
        (Account(max_nodes=4), "max_nodes"),
        (Account(max_usd_per_hour=0.8), "max_usd_per_hour"),
        (Account(max_usd_per_day=0.2), "max_usd_per_day"),
        (Account(max_launches_per_minute=4), "max_launches_per_minute"),
    ],
)
def test_the_account_counts_all_pools_together(account: Account, name: str) -> None:
    one, two = two_pools(account)
    assert [r.result for r in wave(one, 3)] == ["done"]
    seen = observe(two.ctx, two.pool)
    with pytest.raises(GuardError, match=rf"{name} [\d.]+ of the account: .*, 3 more asked"):
        check_guards(two.ctx, two.pool, launch(3), seen)
    part = within_guards(two.ctx, two.pool, launch(3), seen)
    assert part == launch(1), "as much as is left goes ahead"
    wave(two, 3)
    assert len(one.cloud.observe(one.pool).nodes) == 3
    assert len(two.cloud.observe(two.pool).nodes) <= 1


def test_without_limits_of_the_account_other_pools_do_not_matter() -> None:
    one, two = two_pools(Account())
    wave(one, 20)
    assert within_guards(two.ctx, two.pool, launch(20), observe(two.ctx, two.pool)) == launch(20)


def test_what_this_pass_has_launched_counts_though_nothing_shows_it_yet() -> None:
    """Two launches of one plan, each within the guard, and together beyond it."""
    from preprov.control.apply import apply_plan
    from preprov.control.passes import make_plan_now

    world = make_world(make_pool(guards=Guards(max_nodes=3)))
    plan, _ = make_plan_now(world.ctx, world.pool)
    plan = replace(plan, actions=(launch(2, "one"), launch(2, "two")))
    seen = observe(world.ctx, world.pool)
    first, second = apply_plan(world.ctx, world.pool, plan, seen)
    assert (first.result, second.result) == ("done", "guarded")
    assert second.detail.startswith("max_nodes 3: 2 exist, 2 more asked")


def test_a_big_wave_comes_in_parts_of_which_no_two_are_alike() -> None:
    pool = make_pool(guards=Guards(wave=40))
    actions = [launch(30, "one"), launch(100, "two"), replace(launch(1, "three"), kind=ActionKind.DRAIN)]
    sizes = set()
    for plan in range(20):
        parts = list(in_parts(pool, f"plan-{plan}", actions))
        begun = sum(a.count for a, _ in parts if a.kind is ActionKind.LAUNCH)
        assert begun + sum(later for _, later in parts) == 130
        assert parts[-1] == (actions[-1], 0), "only launches are cut"
        assert 30 <= begun <= 50
        sizes.add(begun)
    assert len(sizes) > 5
    assert list(in_parts(pool, "plan-1", actions)) == list(in_parts(pool, "plan-1", actions))


def test_the_rest_of_a_wave_follows() -> None:
    pool = make_pool(guards=Guards(max_nodes=20, wave=4))
    world = make_world(pool)
    counts = []
    for _ in range(6):
        wave(world, 12)
        counts.append(world.nodes())
        world.clock.sleep(30)
    assert counts == sorted(counts)
    assert 3 <= counts[0] <= 5
    assert counts[-1] == 12


def test_a_teardown_that_fails_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log as an error, in the audit, and at the doctor's until it is done."""
    world = make_world()
    wave(world, 1)
    (node,) = world.cloud.observe(world.pool).nodes
    world.cloud.lose(node.node_id)
    world.clock.sleep(world.pool.node_ttl_s + 60)
    end = world.cloud.terminate

    def refuse(pool: Pool, node_ids: object) -> None:
        raise PoolError("the vendor says no", where=pool.name)

    monkeypatch.setattr(world.cloud, "terminate", refuse)
    with capture_logs() as logs:
        (record,) = collect_orphans(world.ctx, world.pool, observe(world.ctx, world.pool), "")
    assert record.result == "failed"
    assert [e["log_level"] for e in logs if "still paid for" in e["event"]] == ["error"]
    (finding,) = teardowns(world.ctx)
    assert finding.state == "bad"
    assert "the vendor says no" in finding.found
    monkeypatch.setattr(world.cloud, "terminate", end)
    world.clock.sleep(60)
    collect_orphans(world.ctx, world.pool, observe(world.ctx, world.pool), "")
    assert teardowns(world.ctx) == []


def test_a_limit_of_the_account_that_is_met_exactly_is_kept() -> None:
    one, two = two_pools(Account(max_nodes=6))
    wave(one, 3)
    assert [r.result for r in wave(two, 3)] == ["done"]
    with pytest.raises(GuardError, match="max_nodes 6 of the account: 6 exist, 1 more asked"):
        check_guards(two.ctx, two.pool, launch(1), observe(two.ctx, two.pool))
