"""Trust is earned in steps: the gate, other writers, settings recorded before the first write and given back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from preprov.contracts import ANOTHER_PREPROV, Finding, PoolSnapshot
from preprov.control.adopting import adopt, give_back, release
from preprov.control.gating import observed_nights, shown
from preprov.control.halting import halt, resume
from preprov.control.passes import pool_pass
from preprov.control.trust import in_force, trust
from preprov.model.adoption import Gate
from preprov.model.errors import PoolError, ThrottledError
from preprov.model.learning import ForecastScore
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Guards, Mode, Pool
from preprov.model.resources import ZERO
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from tests.unit.control.world import START, World, dag, make_pool, make_world, task


@dataclass
class Vendor(SimCloud):
    """A cloud whose group has settings, a floor, and perhaps somebody else who writes them."""

    others: tuple[str, ...] = ()
    silent: bool = False
    settings: dict[str, object] = field(default_factory=lambda: {"min": 0, "policy": "as found"})
    floors: list[int] = field(default_factory=list)

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        return ()

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        if self.silent:
            raise ThrottledError("too many calls", where=group)
        return self.others

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        if self.silent:
            raise ThrottledError("too many calls", where=group)
        return dict(self.settings)

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        changed = [k for k, v in baseline.items() if self.settings[k] != v]
        self.settings.update(baseline)
        idle = [n.node_id for n in self.observe(pool).nodes if not n.is_busy and n.node_id not in held]
        self.terminate(pool, idle)
        return tuple(f"{k}: put back" for k in changed)

    def set_floor(self, pool: Pool, group: str, nodes: int) -> bool:
        changed = self.settings["min"] != nodes
        self.settings["min"] = nodes
        self.floors.append(nodes)
        return changed


def world_of(pool: Pool | None = None, **vendor: object) -> tuple[World, Vendor]:
    made = make_world(pool)
    cloud = Vendor(made.clock, seed=1, **vendor)  # type: ignore[arg-type]
    return replace(made, cloud=cloud, ctx=replace(made.ctx, providers={"sim": cloud}, schedulers={})), cloud


def wants_nodes(world: World) -> None:
    """Work that is ready now."""
    world.submit(dag("wave", task("a", cpu=4, seconds=600, instances=2)))


def one_pass(world: World) -> tuple[ActionRecord, ...]:
    return pool_pass(world.ctx, world.pool, serve=False).records


def looked_at(world: World, nights: int) -> None:
    """Nights that were observed, each from hour to hour."""
    for hour in range(24 * nights + 1):
        at = world.clock.now() - timedelta(hours=hour)
        world.ctx.ports.history.record(PoolSnapshot("p", at, {}, ZERO, ZERO, 0.0, 0, ZERO))


def scored(world: World, coverage: float) -> None:
    at = world.clock.now() - timedelta(hours=3)
    world.ctx.ports.learning.save_score(
        ForecastScore("f", "p", at, at, "", "cpu", at, 3600, (0.1,), coverage, coverage, 0.2)
    )


# ---- the gate


def test_a_pool_without_a_gate_goes_as_far_as_was_asked() -> None:
    world, _ = world_of()
    assert in_force(world.ctx, world.pool) is Mode.FULL


def test_the_gate_says_what_is_missing_and_nothing_is_written() -> None:
    world, cloud = world_of(make_pool(gate=Gate()))
    wants_nodes(world)
    found = trust(world.ctx, world.pool)
    assert (found.wanted, found.mode) == (Mode.FULL, Mode.RECOMMEND)
    assert found.why == (
        "the gate: nights to observe: 0 of 3 so far",
        "the gate: a scored forecast: none has met what came yet",
    )
    (record,) = [r for r in one_pass(world) if r.action.kind is ActionKind.LAUNCH]
    assert record.result == "recommended"
    assert "0 of 3 so far" in record.detail
    assert cloud.observe(world.pool).nodes == ()


def test_the_gate_opens_step_by_step() -> None:
    world, _ = world_of(make_pool(gate=Gate(floor_nights=2, full_nights=4, coverage=0.7)))
    scored(world, 0.8)
    looked_at(world, 3)
    assert in_force(world.ctx, world.pool) is Mode.FLOOR
    assert trust(world.ctx, world.pool).why == ("the gate: nights to observe: 3 of 4 so far",)
    world.ctx.memo.clear()
    looked_at(world, 5)
    assert in_force(world.ctx, world.pool) is Mode.FULL


def test_forecasts_that_miss_keep_it_shut() -> None:
    world, _ = world_of(make_pool(gate=Gate(floor_nights=1, full_nights=1)))
    looked_at(world, 2)
    scored(world, 0.5)
    assert shown(world.ctx, world.pool).missing[Mode.FLOOR] == (
        "coverage of 70%: the 80 % interval held 50% of what came",
    )


def test_a_guard_that_was_hit_keeps_it_shut_and_is_named() -> None:
    pool = make_pool(gate=Gate(floor_nights=1, full_nights=1), guards=Guards(max_nodes=1), mode=Mode.OBSERVE)
    world, _ = world_of(pool)
    looked_at(world, 2)
    scored(world, 0.8)
    wants_nodes(world)
    for _ in range(3):
        one_pass(world)
    hits = [r for r in world.ctx.ports.audit.records("p") if r.result == "guarded"]
    assert [r.detail for r in hits] == ["max_nodes"], "once an hour"
    world.ctx.memo.clear()
    assert shown(world.ctx, pool).missing[Mode.FLOOR] == ("nights without a guard hit: max_nodes",)


def test_a_night_is_counted_from_noon_to_noon_in_the_pools_zone() -> None:
    evening = START.replace(hour=18)
    hours = [evening + timedelta(hours=h) for h in range(12)]
    assert observed_nights(hours, "UTC") == 1
    assert observed_nights(hours[:11], "UTC") == 0
    assert observed_nights(hours, "Asia/Tokyo") == 0, "there it is two half nights"


# ---- other writers


def test_another_writer_leaves_floors_only_and_is_named() -> None:
    world, cloud = world_of(others=("scaling policy cpu",))
    wants_nodes(world)
    found = trust(world.ctx, world.pool)
    assert found.mode is Mode.FLOOR
    assert found.why == ("group g: scaling policy cpu",)
    (record,) = [r for r in one_pass(world) if r.action.kind is ActionKind.LAUNCH]
    assert record.result == "done"
    assert record.detail == "as a floor of 2: scaling policy cpu writes the count too"
    assert cloud.floors == [2, 2]
    assert cloud.observe(world.pool).nodes == (), "the count itself is theirs"


def test_a_floor_comes_down_again_when_nothing_is_wanted() -> None:
    world, cloud = world_of(others=("scaling policy cpu",))
    cloud.settings["min"] = 5
    one_pass(world)
    assert cloud.settings["min"] == 0
    (row,) = [r for r in world.ctx.ports.audit.records("p") if "floor set" in r.detail]
    assert row.result == "done"


def test_another_preprov_is_left_alone_altogether() -> None:
    world, cloud = world_of(others=(f"{ANOTHER_PREPROV} (1a2b)",))
    wants_nodes(world)
    (record,) = [r for r in one_pass(world) if r.action.kind is ActionKind.LAUNCH]
    assert record.result == "skipped"
    assert "1a2b" in record.detail
    assert cloud.floors == []


def test_who_cannot_be_asked_may_be_there() -> None:
    world, cloud = world_of(silent=True)
    wants_nodes(world)
    (record,) = [r for r in one_pass(world) if r.action.kind is ActionKind.LAUNCH]
    assert record.result == "skipped"
    assert "could not be" in record.detail
    assert cloud.observe(world.pool).nodes == ()


def test_who_was_asked_lately_is_remembered_for_a_while() -> None:
    world, cloud = world_of()
    assert in_force(world.ctx, world.pool) is Mode.FULL
    cloud.silent = True
    world.clock.sleep(600)
    assert in_force(world.ctx, world.pool) is Mode.FULL
    world.clock.sleep(3600)
    assert in_force(world.ctx, world.pool) is Mode.FLOOR


def test_a_writer_that_a_person_calls_harmless_is_ignored() -> None:
    world, _ = world_of(others=("scheduled action nightly",))
    adopt(world.ctx, world.pool, ignore=["scheduled action nightly"])
    assert in_force(world.ctx, world.pool) is Mode.FULL


# ---- adopted, and given back


def test_settings_are_recorded_before_the_first_write() -> None:
    world, cloud = world_of()
    wants_nodes(world)
    one_pass(world)
    assert len(cloud.observe(world.pool).nodes) == 2
    (held,) = world.ctx.ports.adoptions.in_force("p").values()
    assert held.baseline == {"min": 0, "policy": "as found"}
    cloud.settings["min"] = 7
    (again,) = adopt(world.ctx, world.pool)
    assert again.baseline == held.baseline, "what was found is not overwritten by what we did"


def test_what_cannot_be_recorded_is_not_written() -> None:
    world, cloud = world_of()
    in_force(world.ctx, world.pool)
    cloud.silent = True
    wants_nodes(world)
    (record,) = [r for r in one_pass(world) if r.action.kind is ActionKind.LAUNCH]
    assert record.result == "skipped"
    assert "could not be recorded" in record.detail


def test_release_puts_everything_back_and_observes_from_then_on() -> None:
    world, cloud = world_of()
    wants_nodes(world)
    one_pass(world)
    cloud.settings["policy"] = "changed by us"
    (back,) = release(world.ctx, world.pool)
    assert back.whole
    assert back.said == ("policy: put back",)
    assert cloud.settings == {"min": 0, "policy": "as found"}
    assert cloud.observe(world.pool).nodes == ()
    assert in_force(world.ctx, world.pool) is Mode.OBSERVE
    assert world.ctx.ports.adoptions.in_force("p") == {}
    assert give_back(world.ctx, world.pool) == ()
    one_pass(world)
    assert cloud.observe(world.pool).nodes == ()


def test_what_cannot_be_given_back_stays_adopted_and_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    world, cloud = world_of()
    adopt(world.ctx, world.pool)

    def refuse(*_: object) -> tuple[str, ...]:
        raise PoolError("the vendor says no", where="g")

    monkeypatch.setattr(cloud, "restore", refuse)
    (back,) = release(world.ctx, world.pool)
    assert not back.whole
    assert "the vendor says no" in back.error
    assert "g" in world.ctx.ports.adoptions.in_force("p")
    assert world.ctx.ports.audit.records("p")[-1].result == "failed"


def test_a_halt_stops_all_writes_at_once_and_gives_back_on_request() -> None:
    world, cloud = world_of()
    wants_nodes(world)
    one_pass(world)
    cloud.settings["min"] = 3
    done = halt(world.ctx, "looking into it", release=True)
    assert [(p, b.whole) for p, b in done.given_back] == [("p", True)]
    assert cloud.observe(world.pool).nodes == ()
    assert cloud.settings["min"] == 0
    assert "g" in world.ctx.ports.adoptions.in_force("p"), "it is halted, not released"
    records = one_pass(world)
    assert {r.result for r in records if r.action.kind is not ActionKind.HOLD} <= {"skipped"}
    assert cloud.observe(world.pool).nodes == ()
    resume(world.ctx)
    world.clock.sleep(300)
    wants_nodes(world)
    one_pass(world)
    assert cloud.observe(world.pool).nodes != ()


def test_nothing_is_asked_of_a_cloud_for_an_instant_that_was_named() -> None:
    world, cloud = world_of(silent=True)
    past = world.ctx.at(START)
    assert trust(past, world.pool).mode is Mode.FULL
    assert cloud.kept(world.pool, Standby.STOPPED) == []
    assert isinstance(world.clock, VirtualClock)
