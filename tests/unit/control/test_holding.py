"""Room that is held for somebody: bookings, windows, quotas and fair shares, on the simulated cloud."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.control import reserving
from preprov.control.context import Tenant
from preprov.control.passes import PassResult
from preprov.control.reserving import Asked, Booking
from preprov.control.why import why_run
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.pools import Guards
from preprov.model.reservations import Purpose, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.model.windows import RecurringWindow
from preprov.model.work import State
from tests.unit.control.world import START, World, dag, make_pool, make_world, task


def tiny(nodes: int = 1) -> World:
    """A world that never has more nodes."""
    return make_world(make_pool(guards=Guards(max_nodes=nodes)))


def play(world: World, seconds: float, each: Callable[[PassResult], None] | None = None) -> None:
    world.run_for(seconds, every=20, plan_every=120, each=each)


def ask(world: World, claimant: str = "c", *, at: float = 0, length: float = 1800, **more: object) -> Booking:
    """Book from `at` seconds after the beginning on."""
    start = START + timedelta(seconds=at)
    amount = Resources(cpu=more.pop("cpu", 2), memory=4)  # type: ignore[arg-type]
    segments = (Segment(start, start + timedelta(seconds=length), amount),)
    asked = Asked(world.pool.name, str(more.pop("tenant", "red")), claimant, segments, key=claimant)
    return reserving.book(world.ctx, replace(asked, **more))  # type: ignore[arg-type]


def now_of(world: World, booking: Booking) -> Booking:
    found = reserving.find(world.ctx, booking.booking_id, None)
    assert found is not None
    return found


def started(world: World) -> dict[str, float]:
    """Task -> seconds after the beginning at which it started."""
    runs = [r.run_id for r in world.ctx.ports.work.runs(world.pool.name)]
    return {
        t.task_id: (t.started_at - START).total_seconds()
        for t in world.ctx.ports.work.task_runs(runs)
        if t.started_at is not None and t.state is not State.SKIPPED
    }


def test_a_booking_is_warm_at_its_start_and_gone_at_its_end() -> None:
    world = make_world()
    booked = ask(world, at=600, length=600, count=3)
    seen: dict[float, tuple[bool, int]] = {}

    def look(result: PassResult) -> None:
        seen[(result.at - START).total_seconds()] = (now_of(world, booked).is_ready, world.nodes())

    world.run_for(1500, each=look)
    assert world.nodes() == 0, "nothing is held for ever"
    ready = [t for t, (is_ready, _) in seen.items() if is_ready]
    assert min(ready) <= 640, "a node may take longer than its lead time at p95"
    assert max(ready) < 1200
    assert max(nodes for _, nodes in seen.values()) == 2, "three times two cores on nodes of four"
    assert now_of(world, booked).state is ReservationState.RELEASED


@pytest.mark.slow
def test_instances_are_handed_over_together_or_not_at_all() -> None:
    world = tiny(2)
    world.scheduler.seconds = lambda _: 600  # ten times as long as it was said to take
    world.submit(dag("busy", task("t", cpu=3, seconds=60)))
    play(world, 120)
    booked = ask(world, at=240, count=2, cpu=4, expires_at=START + timedelta(hours=1))
    states: set[tuple[str, ...]] = set()
    play(world, 800, each=lambda _: states.add(tuple(m.state for m in now_of(world, booked).members)))
    assert states == {("soft", "soft"), ("committed", "committed")}


def test_what_is_booked_is_no_room_for_others() -> None:
    world = tiny()
    ask(world, at=0, length=600, cpu=3)
    play(world, 120)
    world.submit(dag("other", task("small", cpu=1), task("large", cpu=2)))
    play(world, 700)
    at = started(world)
    assert at["small"] < 200
    assert at["large"] >= 600


@pytest.mark.slow
def test_what_is_under_a_booking_waits_for_it_and_uses_it_up() -> None:
    world = tiny()
    booked = ask(world, at=300, length=3000, cpu=3, tenant="default")
    mine = task("mine", cpu=2, seconds=60, under=booked.booking_id)
    world.submit(dag("d", mine), dag("e", replace(mine, task_id="again")))
    world.submit(dag("f", task("other", cpu=2, seconds=60)))
    play(world, 290)
    assert set(started(world)) == {"other"}
    play(world, 500)
    at = started(world)
    assert min(at["mine"], at["again"]) >= 300
    assert at["mine"] != at["again"], "the second found one core left in the booking, and went where there was room"
    (left,) = now_of(world, booked).members
    assert left.most_after(world.clock.now()).cpu == 1, "what ended was not given back to it"


def test_what_is_under_a_booking_goes_on_under_it_after_a_crash_before_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = tiny()
    booked = ask(world, at=0, length=3000, cpu=3, tenant="default")
    play(world, 120)
    world.submit(dag("d", task("mine", cpu=2, seconds=600, under=booked.booking_id)))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(world.scheduler, "start", killed)
        with pytest.raises(KeyboardInterrupt):
            play(world, 120)

    def claims() -> list[tuple[str, str, ReservationState]]:
        live = world.ctx.ports.ledger.reservations(world.pool.name)
        return [(r.reservation_id, r.under, r.state) for r in live if r.purpose is Purpose.TASK]

    before = claims()
    assert [(under, state) for _, under, state in before] == [(booked.booking_id, ReservationState.COMMITTED)]
    play(world, 60)
    assert set(started(world)) == {"mine"}
    assert claims() == before, "what was committed is what starts"


def test_a_booking_that_nobody_could_hand_over_is_void() -> None:
    world = make_world(make_pool(guards=Guards(max_nodes=1), mode="observe"))
    booked = ask(world, at=0, expires_at=START + timedelta(seconds=200))
    world.ctx.ports.ledger.expire(world.pool.name, START + timedelta(seconds=200))
    assert now_of(world, booked).state is ReservationState.EXPIRED


def test_a_booking_whose_node_is_lost_finds_another() -> None:
    world = make_world()
    booked = ask(world, at=0, length=3600)
    play(world, 200)
    (first,) = now_of(world, booked).members
    assert first.node_id is not None
    world.cloud.terminate(world.pool, [first.node_id])
    play(world, 400)
    (then,) = now_of(world, booked).members
    assert then.state is ReservationState.COMMITTED
    assert then.node_id not in (None, first.node_id)


def test_a_booking_may_be_named_like_a_task_and_is_none() -> None:
    world = make_world()
    (run,) = world.submit(dag("d", task("t")))
    ask(world, f"{run.run_id}/t#0")
    play(world, 300)
    ended = world.ctx.ports.work.run(run.run_id)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert any("started on" in e.what for e in why_run(world.ctx, run.run_id).events)


def window(**changes: object) -> RecurringWindow:
    """01:30 to 02:00 each day, half an hour after the beginning."""
    base = RecurringWindow("eod", "p", "red", Resources(cpu=4, memory=4), 5400, 7200, lead_s=600)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_window_is_warm_before_its_start_and_its_tenants_alone() -> None:
    world = tiny()
    world.ctx.ports.windows.put(window())
    seen: dict[float, int] = {}
    play(world, 1400, each=lambda r: seen.update({(r.at - START).total_seconds(): world.nodes()}))
    (turn,) = [r for r in world.ctx.ports.ledger.reservations() if r.purpose is Purpose.WINDOW]
    assert turn.state is ReservationState.COMMITTED, "bound as its lead began"
    assert min(t for t, n in seen.items() if n) >= 900, "warm from twenty minutes after the beginning on, not all day"
    world.submit(dag("blue", task("stranger"), tenant="blue"), dag("red", task("own", cpu=3), tenant="red"))
    play(world, 600)
    assert set(started(world)) == {"own"}
    world.submit(dag("red2", task("again", cpu=3), tenant="red"))
    play(world, 300)
    assert set(started(world)) == {"own", "again"}, "what ends makes room in the window for the next"
    play(world, 1500)
    assert started(world)["stranger"] >= 3600, "then its time was over"
    turns = world.ctx.ports.ledger.reservations(live=False)
    assert [r.state for r in turns if r.purpose is Purpose.WINDOW] == ["released"]


@pytest.mark.slow
def test_others_borrow_a_window_until_it_is_reclaimed_and_are_never_ended() -> None:
    world = tiny()
    world.ctx.ports.windows.put(window(borrow=True, reclaim_s=120))
    play(world, 1300)  # warm since 1200; its tenant's alone from 1680 on
    world.submit(dag("b", task("short", seconds=100), task("long", seconds=3000), tenant="blue"))
    play(world, 200)
    assert set(started(world)) == {"short"}, "the long one would run into the window"
    play(world, 200)
    world.submit(dag("b2", task("late", seconds=60), tenant="blue"))
    play(world, 500)
    assert "late" not in started(world), "it came after the room was reclaimed"
    assert {t.state for t in world.ctx.ports.work.task_runs([world.ctx.ports.work.runs("p")[1].run_id])} >= {
        State.SUCCEEDED
    }
    play(world, 2000)
    assert started(world)["long"] >= 3600


@pytest.mark.slow
def test_a_borrower_that_runs_late_keeps_its_node_and_the_window_waits() -> None:
    world = tiny()
    world.ctx.ports.windows.put(window(borrow=True))
    play(world, 1300)
    world.scheduler.seconds = lambda _: 900
    world.submit(dag("b", task("late", seconds=100), tenant="blue"))
    play(world, 700)
    assert started(world).keys() == {"late"}
    play(world, 1000)
    (run,) = world.ctx.ports.work.runs("p")
    (late,) = world.ctx.ports.work.task_runs([run.run_id])
    assert late.state is State.SUCCEEDED
    assert late.attempt == 1


def test_a_changed_window_replaces_its_turns_and_a_removed_one_takes_them_away() -> None:
    world = make_world()
    put = world.ctx.ports.windows.put
    put(window())
    play(world, 30)
    (old,) = world.ctx.ports.ledger.reservations()
    put(window(count=2))
    play(world, 30)
    new = world.ctx.ports.ledger.reservations()
    assert [r.claimant for r in new] == ["eod@2025-03-03T01:30Z[0]", "eod@2025-03-03T01:30Z[1]"]
    assert old.reservation_id not in {r.reservation_id for r in new}
    world.ctx.ports.windows.remove("p", "red", "eod")
    play(world, 30)
    assert world.ctx.ports.ledger.reservations() == ()


def test_a_tenant_reserves_no_more_than_its_quota_and_with_no_higher_priority() -> None:
    world = make_world()
    world.ctx.tenants.update(red=Tenant(priority=2, quota={"cpu": 4}))  # type: ignore[attr-defined]
    ask(world, "a", cpu=2, priority=2)
    with pytest.raises(OverbookedError, match="quota of red"):
        ask(world, "b", cpu=3)
    ask(world, "b", cpu=3, tenant="blue")
    with pytest.raises(ReservationError, match="priority 2 at the most"):
        ask(world, "c", cpu=1, priority=3)
    assert ask(world, "c", cpu=1, priority=3, trusted=True).members[0].priority == 3


def test_what_its_quota_forbids_wants_no_node() -> None:
    world = make_world()
    world.ctx.tenants.update(red=Tenant(quota={"cpu": 4}))  # type: ignore[attr-defined]
    world.submit(dag("d", *(task(f"t{i}", cpu=4, seconds=600) for i in range(3)), tenant="red"))
    most = 0

    def look(_: PassResult) -> None:
        nonlocal most
        most = max(most, len(world.cloud.observe(world.pool).nodes))

    play(world, 400, each=look)
    assert len(started(world)) == 1


def started_by(world: World) -> dict[str, int]:
    out: dict[str, int] = {}
    for r in world.ctx.ports.ledger.reservations(world.pool.name):
        if r.state is ReservationState.COMMITTED:
            out[r.tenant] = out.get(r.tenant, 0) + 1
    return out


def test_where_it_is_short_tenants_get_what_each_is_due() -> None:
    world = tiny(2)  # eight cores
    world.ctx.tenants.update(red=Tenant(share=3))  # type: ignore[attr-defined]
    tasks = [task(f"t{i:02}", seconds=3000) for i in range(12)]
    world.submit(dag("blue", *tasks, tenant="blue"))
    world.submit(dag("red", *tasks, tenant="red"))
    play(world, 300)
    assert started_by(world) == {"red": 6, "blue": 2}
