"""Slots of warm nodes, and limits that follow them."""

from hypothesis import given
from hypothesis import strategies as st

from preprov.model.resources import Resources
from preprov.planning.slots import Room, limit, slots, slots_of

rooms = st.lists(st.builds(Resources, cpu=st.floats(0, 64), memory=st.floats(0, 256)), max_size=6)
amounts = st.builds(Resources, cpu=st.floats(0.1, 16), memory=st.floats(0.1, 64))


def whole(room: Resources) -> Room:
    return Room(room, room)


def test_what_others_have_is_no_room_but_runs_that_may_be_among_it_stay() -> None:
    run, half = Resources(cpu=1), Room(Resources(cpu=4), Resources(cpu=2))
    assert slots([half, half], run, 0, 100) == 4
    assert slots([half, half], run, 0, 100, among_others=3) == 7
    assert slots([half, half], run, 0, 100, among_others=30) == 8, "no more than there would be without anybody"


def test_what_is_left_over_on_two_nodes_is_no_room_for_a_third_run() -> None:
    run = Resources(cpu=3, memory=1)
    assert slots([whole(Resources(cpu=4, memory=8))] * 2, run, 0, 100) == 2
    assert slots_of(Resources(cpu=4, memory=8), Resources(cpu=0.1, memory=4)) == 2
    assert slots_of(Resources(cpu=0.3), Resources(cpu=0.1)) == 3, "0.1 three times is 0.3, whatever floats say"


@given(rooms, amounts, st.integers(0, 5), st.integers(5, 50))
def test_runs_of_all_slots_fit_side_by_side_within_the_bounds(
    nodes: list[Resources], run: Resources, least: int, most: int
) -> None:
    for room in nodes:
        n = slots_of(room, run)
        assert (run * n).fits_in(room * (1 + 1e-6) + Resources(cpu=1e-6, memory=1e-6))
        assert not (run * (n + 1)).fits_in(room * (1 - 1e-6))
    assert least <= slots([whole(n) for n in nodes], run, least, most) <= most


@given(st.none() | st.integers(0, 100), st.integers(0, 100), st.floats(0.01, 1), st.integers(0, 100), st.booleans())
def test_a_limit_is_never_below_what_runs_and_is_lowered_only_where_it_may(
    now: int | None, total: int, share: float, held: int, lowers: bool
) -> None:
    found = limit(now, total, share, held, lowers=lowers)
    if found is None:
        assert now is None
        assert not lowers
        return
    assert found >= held
    assert found == limit(found, total, share, held, lowers=lowers), "what is right stays"
    if lowers:
        assert total * share - 1e-6 <= max(found, held) <= max(total * share + 1, held)
    else:
        assert now is not None
        assert found >= now
