"""The pool's own last days under other policies: what binds the pool binds the play, what has to be earned does not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest

from preprov.contracts import Capabilities
from preprov.control.context import Context, FixedClock
from preprov.model.adoption import Gate
from preprov.model.limits import Account, Deadline, SharedLimit
from preprov.model.pools import Objective, Pool
from preprov.planning.prices import TablePriceBook
from preprov.replay import past, registry
from preprov.replay.pace import pace_of
from preprov.replay.past import case_of
from preprov.replay.policy import Setting
from preprov.replay.whatif import WhatIf, what_if
from preprov.sim.cloud import SimCloud
from preprov.sim.ports import memory_ports
from preprov.sim.workstore import MemoryWorkStore

from .test_production import DAYS, SCHEDULES, Small, nightly
from .traces import T0, pool_of

NOW = T0 + timedelta(days=DAYS - 2, hours=5)


def context(pool: Pool, providers=None, **more) -> Context:
    """A store that holds the nights, and nothing else."""
    store = MemoryWorkStore()
    store.preload(pool.name, nightly(), SCHEDULES, zone="UTC")
    prices = TablePriceBook.from_pools([pool])
    clock = FixedClock(NOW)
    return Context(
        memory_ports(store), providers or {}, {}, prices, clock, {pool.name: pool}, live=False, n_samples=20, **more
    )


def small_pool(**more) -> Pool:
    return replace(pool_of(lead_s=240.0, sigma=True), horizon_s=4 * 3600, **more)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """Ask about the last three hours, with few samples and no nightly fit."""
    monkeypatch.setattr(past, "WARM_UP_S", 1800.0)
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "preprov": lambda knob: Small(knob or 5.0)})

    def ask(ctx: Context, policies: Sequence[str] = ("preprov",), **more) -> WhatIf:
        (pool,) = ctx.pools.values()
        return what_if(ctx, pool, days=3 / 24, policies=policies, slos=(), **more)

    return ask


def figures(found: WhatIf) -> list[dict]:
    return [{k: v for k, v in o.row.items() if k not in ("seconds", "tick_ms")} for o in found.options]


@pytest.mark.slow
def test_a_pool_that_has_to_earn_trust_is_played_as_one_that_has(asked):
    free = asked(context(small_pool()))
    gated = asked(context(small_pool(gate=Gate())))
    (row,) = figures(free)
    assert row["node_hours"] > 0
    assert row["unstarted"] == 0
    assert row["warm_hit_ratio"] > 0.8
    assert figures(gated) == [row]


def most_at_once(found: WhatIf) -> list[float]:
    return [max(o.played.nodes["ready"]) for o in found.options]


@pytest.mark.slow
def test_limits_beyond_the_pool_bind_the_play(asked):
    """Eight tasks of a core on nodes of four want two at once."""
    groups = frozenset({("p", "reference"), ("other", "reference")})
    policies = ("preprov", "reactive")
    assert min(most_at_once(asked(context(small_pool()), policies))) >= 2
    for limit in (SharedLimit("quota", groups, max_nodes=1), SharedLimit("quota", groups, max_cpu=7)):
        found = asked(context(small_pool(), limits=(limit,)), policies)
        assert most_at_once(found) == [1, 1]
        assert any("shared with other" in n for n in found.pace.notes)
        assert all(o.row["queue_wait_mean_s"] > 0 for o in found.options), (
            "what the limit makes wait is no provision wait"
        )
    assert most_at_once(asked(context(small_pool(), account=Account(max_nodes=1)), policies)) == [1, 1]
    for account in (Account(max_usd_per_hour=5.0), Account(max_usd_per_day=1.5)):
        ours, reactive = most_at_once(asked(context(small_pool(), account=account), policies))
        assert (ours, reactive) == (1, 2), "others know nothing of money"


class Slow(SimCloud):
    """A provider whose groups move at plans only, as Terraform's do."""

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        return replace(super().capabilities(pool, group), reacts=False)


@pytest.mark.slow
def test_it_is_played_as_the_pool_is_run_and_says_what_is_not(asked):
    """Plans look as far as the pool's own; where nothing moves between two plans, nothing does in the play."""
    found = asked(context(small_pool()))
    assert (found.pace.look_ahead_s, found.pace.samples) == (4 * 3600, 20)
    assert (found.pace.plan_every_s, found.pace.react_every_s, found.pace.notes) == (1800, 5, ())
    assert found.options[0].row["solves"] == 3.5 * 2 + 1
    slow = asked(context(small_pool(), {"sim": Slow(FixedClock(NOW))}))
    assert (slow.pace.plan_every_s, slow.pace.react_every_s) == (300, None)
    assert slow.options[0].row["solves"] >= 3.5 * 12
    assert "every 5 min" in slow.pace.words()
    assert slow.pace.notes == ()


def test_what_one_offering_stands_for_is_said():
    pool = small_pool()
    group = pool.groups[0]
    large = replace(group.offerings[0], instance_type="large")
    pool = replace(pool, groups=(replace(group, offerings=(*group.offerings, large)),))
    (note,) = pace_of(case_of(context(pool), pool, 1.0, {})).notes
    assert note == "group reference: lead times and standby prices of m7i.4xlarge stand for all its offerings"


class Looks(Small):
    """Says what plans are made from."""

    seen: ClassVar[set[tuple[int, int]]] = set()

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.seen.add((self._pool.horizon_s, self.ctx.n_samples))


def test_plans_look_as_far_as_the_pools_own(asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "preprov": lambda knob: Looks(0.05)})
    monkeypatch.setattr(Looks, "tick", lambda self, now, view: [])
    monkeypatch.setattr("preprov.replay.engine.PATIENCE_S", 0.0)
    pool = small_pool()
    asked(context(replace(pool, horizon_s=48 * 3600)))
    asked(context(pool))
    assert Looks.seen == {(48 * 3600, 20), (4 * 3600, 20)}


@pytest.mark.slow
def test_what_the_pool_says_of_landing_counts_for_its_past(asked):
    """The runs were read before their route had a land_by; one and a half minutes are spare, a launch takes four."""
    pool = small_pool(deadlines=(Deadline("d", land_by="02:26"),))
    found = asked(context(pool), ("reactive", "static-running"))
    assert [o.row["land_by_runs"] for o in found.options] == [1, 1]
    assert [o.row["land_by_met"] for o in found.options] == [0, 1]
    assert found.land_by_price() is None, "that is about ours"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("spans", [{}, {"d": timedelta(minutes=26)}], ids=["as routes say", "as asked"])
def test_lateness_is_priced_until_runs_land(asked, spans):
    """Waiting is worth next to nothing: without a price on lateness nothing is there in time."""
    cheap = Objective(shortage_usd_per_core_hour=0.001)
    pool = small_pool(objective=cheap, deadlines=() if spans else (Deadline("d", land_by="02:26"),))
    found = asked(context(pool), land_by=spans)
    own, *priced = found.options
    assert (own.row["land_by_runs"], own.row["land_by_met"], own.late_usd_per_minute) == (1, 0, None)
    assert [o.late_usd_per_minute for o in priced] == [1.0, 10.0, 100.0][: len(priced)]
    assert "per minute late" in priced[0].objective
    price = found.land_by_price()
    assert price is not None
    assert (price["met"], price["own_met"]) == (1, 0)
    assert price["late_usd_per_minute"] == priced[-1].late_usd_per_minute
    assert price["more_usd_per_day"] * found.days == pytest.approx(priced[-1].row["cost_usd"] - own.row["cost_usd"])
    assert "landing 1 of 1 runs in time costs" in found.sentences()[-1]
