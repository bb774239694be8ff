"""Nodes on which others than preprov run work: what they hold is nobody's to promise."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.control import reserving
from preprov.control.observing import observe, snapshot
from preprov.control.passes import pool_pass
from preprov.control.reserving import Asked, Booking
from preprov.model.foreign import Foreign
from preprov.model.nodes import PoolObservation
from preprov.model.pools import Override, Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment
from preprov.model.resources import ZERO, Resources
from preprov.planning.held import foreign_by_node
from tests.unit.control.world import START, World, dag, make_world, task
from tests.unit.planning.pools import node, observed


def scene(nodes: int = 2) -> World:
    """A world with so many warm nodes of 4 cores, for hours."""
    world = make_world()
    until = START + timedelta(hours=5)
    world.ctx.ports.intent.add_override(Override("p", nodes, START, until, "wanted"))
    world.run_for(300, every=30)
    assert world.nodes() == nodes
    return world


def others(world: World, node: str, cpu: float, *, said: bool = True, minutes: float = 0) -> None:
    """Have a user's job on a node, since so many minutes from now."""
    began = world.clock.now() + timedelta(minutes=minutes) if said else None
    world.cloud.running.setdefault(node, []).append("slurm:7")  # type: ignore[attr-defined]
    had = world.cloud.foreign.get(node, ())
    world.cloud.foreign[node] = (*had, Foreign(Resources(cpu=cpu, memory=1), began))


def book(world: World, claimant: str, cpu: float = 4, **more: object) -> Booking:
    now = world.clock.now()
    segments = (Segment(now, now + timedelta(hours=1), Resources(cpu=cpu, memory=4)),)
    asked = Asked("p", "red", claimant, segments, key=claimant)
    return reserving.book(world.ctx, replace(asked, **more))  # type: ignore[arg-type]


def on(world: World, booking: Booking) -> list[str | None]:
    """The nodes it is bound to after a pass."""
    pool_pass(world.ctx, world.pool, plan=False)
    found = reserving.find(world.ctx, booking.booking_id, None)
    assert found is not None
    return [m.node_id for m in found.members]


def names(world: World) -> list[str]:
    return sorted(n.node_id for n in observe(world.ctx, world.pool).nodes)


def test_a_booking_is_bound_where_nobody_elses_work_has_its_room() -> None:
    world = scene()
    full, idle = names(world)
    others(world, full, 4)
    assert on(world, book(world, "c")) == [idle]
    assert on(world, book(world, "d", cpu=1)) == [None], "there is no core left"


def test_what_others_leave_of_a_node_is_used_first() -> None:
    world = scene()
    full, _ = names(world)
    others(world, full, 3)
    assert on(world, book(world, "c", cpu=1)) == [full]


def test_a_task_goes_beside_others_too() -> None:
    world = scene()
    full, idle = names(world)
    others(world, full, 3)
    world.submit(dag("d", task("large", cpu=2, seconds=600), task("small", cpu=1, seconds=600)))
    pool_pass(world.ctx, world.pool, plan=False)
    held = {r.claimant.split("/")[1]: r.node_id for r in world.ctx.ports.ledger.reservations("p")}
    assert held == {"large#0": idle, "small#0": full}


def test_work_that_began_under_a_booking_is_counted_once_and_older_work_beside_it() -> None:
    world = scene(1)
    (only,) = names(world)
    others(world, only, 1, minutes=-5)
    booked = book(world, "c", cpu=2)
    assert on(world, booked) == [only]
    assert on(world, book(world, "d", cpu=2)) == [None], "one core is a user's, two are booked"
    world.clock.sleep(60)
    others(world, only, 2)
    world.clock.sleep(60)
    assert on(world, book(world, "e", cpu=1)) == [only], "the job that began then is what the booking is for"
    reserving.give_back(world.ctx, booked, "over")
    assert on(world, book(world, "f", cpu=1)) == [None], "the job goes on"


class Mute:
    """A provider that cannot say what work holds."""

    def __init__(self, world: World) -> None:
        self._cloud = world.cloud

    def observe(self, pool: Pool) -> PoolObservation:
        seen = self._cloud.observe(pool)
        return replace(seen, nodes=tuple(replace(n, foreign=None) for n in seen.nodes))

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)


def test_where_nobody_says_a_node_is_full_while_something_runs_that_is_not_in_the_ledger() -> None:
    world = scene()
    world = replace(world, ctx=replace(world.ctx, providers={"sim": Mute(world)}))
    full, idle = names(world)
    world.submit(dag("d", task("ours", cpu=1, seconds=3600)))
    pool_pass(world.ctx, world.pool, plan=False)
    (ours,) = world.ctx.ports.ledger.reservations("p")
    assert on(world, book(world, "b", cpu=1)) == [ours.node_id], "what preprov has placed is in the ledger"
    strange = idle if ours.node_id == full else full
    others(world, strange, 1)
    assert on(world, book(world, "c", cpu=3)) == [None]
    assert [sum(f.amount.cpu for f in n.foreign or ()) for n in observe(world.ctx, world.pool).nodes].count(4) == 1


def test_a_snapshot_tells_what_others_hold_beyond_what_is_booked() -> None:
    world = scene()
    full, _ = names(world)
    others(world, full, 40)
    seen = observe(world.ctx, world.pool)
    told = snapshot(world.ctx, world.pool, seen, (), target=2, waiting=ZERO)
    assert told.foreign == Resources(cpu=4, memory=1), "no more than the node has"


def test_shares_are_of_what_others_leave() -> None:
    """Of 8 cores others have 4: whoever is due half of the rest is not held to have less than its due with 2."""
    world = scene()
    full, _ = names(world)
    others(world, full, 4)
    first, second = book(world, "r", cpu=2), book(world, "s", cpu=2, tenant="blue")
    assert (on(world, first), on(world, second)) == ([names(world)[1]], [names(world)[1]])


amounts = st.builds(Resources, cpu=st.integers(0, 8).map(float), memory=st.integers(0, 8).map(float))
minutes = st.integers(-60, 60)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@given(st.lists(st.tuples(amounts, st.none() | minutes), max_size=5), st.lists(st.tuples(amounts, minutes), max_size=4))
def test_what_is_counted_on_top_of_bookings_is_never_more_than_there_is_nor_less_than_began_before(
    work: list[tuple[Resources, int | None]], booked: list[tuple[Resources, int]]
) -> None:
    foreign = tuple(Foreign(a, None if m is None else at(m)) for a, m in work)
    claims = [
        Reservation(
            f"b{i}",
            "p",
            f"c{i}",
            (Segment(at(-100), at(1000), a),),
            ReservationState.COMMITTED,
            node_id="n1",
            purpose=Purpose.BOOKING,
            bound_at=at(m),
        )
        for i, (a, m) in enumerate(booked)
    ]
    seen = replace(observed(replace(node("n1"), foreign=foreign)), at=at(0))
    beyond = foreign_by_node(seen, claims).get("n1", ZERO)
    whole = sum((f.amount for f in foreign), ZERO)
    held = sum((r.most for r in claims), ZERO)
    first = min((r.bound_at for r in claims if r.bound_at), default=at(1000))
    before = sum((f.amount for f in foreign if f.since is not None and f.since < first - timedelta(minutes=1)), ZERO)
    assert beyond.fits_in(whole)
    assert before.fits_in(beyond)
    assert whole.minus_clamped(held).fits_in(beyond)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(milliseconds=900)])
def test_a_start_told_in_whole_seconds_is_not_before_a_booking_bound_in_that_second(late: timedelta) -> None:
    amount = Resources(cpu=2)
    claim = Reservation(
        "b",
        "p",
        "c",
        (Segment(at(0), at(60), amount),),
        ReservationState.COMMITTED,
        node_id="n1",
        bound_at=at(0) + late,
    )
    seen = replace(observed(replace(node("n1"), foreign=(Foreign(amount, at(0)),))), at=at(1))
    assert foreign_by_node(seen, [claim]) == {"n1": ZERO}
