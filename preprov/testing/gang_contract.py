"""What every reservation ledger must do for gangs, quotas, windows, bookings that are used up, tasks that are late."""

from dataclasses import replace

import pytest

from preprov.contracts import Ports
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Binding, Purpose, Quota, Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.testing.store_examples import POOL, T0, PortsContract, claim, minutes

ROOM = Resources(cpu=4, memory=4)


def gang(name: str, count: int, cpu: float = 1.0) -> tuple[Reservation, ...]:
    """So many reservations that belong together."""
    one = claim(name, cpu=cpu)
    return tuple(replace(one, reservation_id=f"{name}.{i}", claimant=f"{name}[{i}]", gang=name) for i in range(count))


class GangContract(PortsContract):
    """Reservations that hang together."""

    def test_a_gang_is_made_all_or_none(self, ports: Ports) -> None:
        """Also if one of its claimants is there already."""
        ledger = ports.ledger
        with pytest.raises(OverbookedError):
            ledger.reserve_all(gang("g", 5), ROOM)
        assert ledger.reservations() == ()
        made = ledger.reserve_all(gang("g", 3), ROOM)
        assert ledger.get("g") == made == ledger.reservations()
        assert ledger.get("g.1") == (made[1],)
        assert ledger.get("nothing") == ledger.get("") == ()
        other = tuple(replace(r, reservation_id=f"x{r.reservation_id}", gang="xg") for r in made)
        assert ledger.reserve_all((replace(other[0], claimant="new"), *other[1:])) == made
        assert ledger.get("xg") == ()

    def test_a_gang_asked_for_again_is_given_as_it_is_now(self, ports: Ports) -> None:
        """Whatever became of it."""
        ledger = ports.ledger
        made = ledger.reserve_all(gang("g", 2))
        gone = ledger.release("g.0")
        assert ledger.reserve_all(made) == (gone, made[1])

    def test_a_gang_is_committed_all_or_none(self, ports: Ports) -> None:
        """In the order asked for."""
        ledger = ports.ledger
        ledger.reserve_all(gang("g", 5))
        with pytest.raises(OverbookedError):
            ledger.commit_all([Binding(f"g.{i}", "n1", ROOM) for i in range(5)], T0)
        assert {r.state for r in ledger.get("g")} == {ReservationState.SOFT}
        spread = [Binding(f"g.{i}", f"n{i % 2}", ROOM) for i in (4, 2, 0, 1, 3)]
        bound = ledger.commit_all(spread, T0)
        assert [(r.reservation_id, r.node_id) for r in bound] == [(b.reservation_id, b.node_id) for b in spread]
        assert ledger.commit_all(spread, T0) == bound

    def test_a_tenant_holds_no_more_than_its_quota(self, ports: Ports) -> None:
        """Of promises and of commitments; another tenant's are its own."""
        ledger, quota = ports.ledger, Quota(POOL, "default", Resources(cpu=2, memory=9))
        ledger.reserve_all([claim("a", cpu=1.5)], None, quota)
        with pytest.raises(OverbookedError, match="quota of default"):
            ledger.reserve_all([claim("b")], None, quota)
        ledger.reserve_all([claim("later", at=T0 + minutes(10))], None, quota)
        ledger.reserve_all([replace(claim("c"), tenant="other")], None, Quota(POOL, "other", ROOM))
        task = replace(claim("t"), purpose=Purpose.TASK)
        assert ledger.reserve_all([task], None, quota) == (task,), "a task that waits holds nothing"
        ledger.commit("a", "n1", ROOM, T0)
        with pytest.raises(OverbookedError, match="quota of default"):
            ledger.commit_all([Binding("t", "n2", ROOM)], T0, quota)
        ledger.release("a")
        assert ledger.commit_all([Binding("t", "n2", ROOM)], T0, quota)[0].node_id == "n2"

    def test_what_runs_in_a_window_is_counted_once(self, ports: Ports) -> None:
        """It comes and goes, and the window stays as it is; what exceeds it wants room of its own."""
        ledger = ports.ledger
        window = replace(claim("w", cpu=3), purpose=Purpose.WINDOW)
        ledger.reserve(window)
        ledger.commit("w", "n1", ROOM, T0)
        for i in range(2):
            ledger.reserve(replace(claim(f"t{i}", cpu=2), purpose=Purpose.TASK, under="w"))
            ledger.commit(f"t{i}", "n1", ROOM, T0)
        ledger.reserve(claim("stranger", cpu=0.5))
        with pytest.raises(OverbookedError):
            ledger.commit("stranger", "n1", ROOM, T0)
        ledger.release("t0")
        assert ledger.commit("stranger", "n1", ROOM, T0).node_id == "n1", "3 of the window and its own half"
        (held,) = ledger.get("w")
        assert (held.segments, held.state) == (window.segments, ReservationState.COMMITTED)

    def test_a_booking_is_used_up_for_good(self, ports: Ports) -> None:
        """What starts under it takes its place, and what ends is not given back to it."""
        ledger = ports.ledger
        ledger.reserve(claim("b", cpu=3, for_minutes=60))
        ledger.commit("b", "n1", ROOM, T0)
        ledger.reserve(replace(claim("t0", cpu=2, at=T0 + minutes(5)), purpose=Purpose.TASK, under="b"))
        ledger.commit("t0", "n1", ROOM, T0 + minutes(5))
        (left,) = ledger.get("b")
        assert [(s.start, s.end, s.amount.cpu) for s in left.segments] == [
            (T0, T0 + minutes(5), 3.0),
            (T0 + minutes(5), T0 + minutes(60), 1.0),
        ]
        ledger.release("t0")
        assert ledger.get("b") == (left,)
        ledger.reserve(claim("stranger", cpu=3, at=T0 + minutes(6)))
        assert ledger.commit("stranger", "n1", ROOM, T0 + minutes(6)).node_id == "n1"
        ledger.reserve(replace(claim("t1", cpu=1, at=T0 + minutes(7)), purpose=Purpose.TASK, under="b"))
        ledger.commit("t1", "n1", ROOM, T0 + minutes(7))
        (left,) = ledger.get("b")
        assert (left.state, left.reason) == (ReservationState.RELEASED, "used up")
        assert (left.start, left.end) == (T0, T0 + minutes(7))

    def test_nothing_is_bound_under_another_tenants_reservation(self, ports: Ports) -> None:
        """And nothing is taken from it."""
        ledger = ports.ledger
        booked = ledger.reserve(claim("b", cpu=3))
        ledger.reserve(replace(claim("t"), tenant="other", under="b"))
        with pytest.raises(ReservationError):
            ledger.commit("t", "n1", ROOM, T0)
        assert ledger.get("b") == (booked,)
        assert ledger.get("t")[0].state is ReservationState.SOFT

    def test_a_task_that_runs_late_keeps_its_room(self, ports: Ports) -> None:
        """Though its segments have ended; what was promised for later has to wait."""
        ledger = ports.ledger
        ledger.reserve(replace(claim("t", cpu=3, for_minutes=5), purpose=Purpose.TASK))
        ledger.commit("t", "n1", ROOM, T0)
        ledger.reserve(claim("next", cpu=2, at=T0 + minutes(10)))
        with pytest.raises(OverbookedError):
            ledger.commit("next", "n1", ROOM, T0 + minutes(5))
        ledger.release("t")
        assert ledger.commit("next", "n1", ROOM, T0 + minutes(5)).node_id == "n1"

    def test_what_was_held_until_now_is_over_but_tasks_are_not(self, ports: Ports) -> None:
        """A booking that nobody used does not hold its node for ever."""
        ledger = ports.ledger
        for name, purpose in (("b", Purpose.BOOKING), ("w", Purpose.WINDOW), ("t", Purpose.TASK)):
            ledger.reserve(replace(claim(name), purpose=purpose))
            ledger.commit(name, "n1", ROOM, T0)
        assert ledger.expire(POOL, T0 + minutes(10) - minutes(0.01)) == 0
        assert ledger.expire(POOL, T0 + minutes(10)) == 2
        assert [r.reservation_id for r in ledger.reservations()] == ["t"]
        assert ledger.get("b")[0].reason == "its time is over"

    def test_what_lost_its_node_can_be_booked_anew(self, ports: Ports) -> None:
        """It is soft again, until when somebody says."""
        ledger, until = ports.ledger, T0 + minutes(9)
        ledger.reserve(claim("b"))
        assert ledger.rebook("b", until, "no") == ledger.get("b")[0], "a soft one stays as it is"
        ledger.commit("b", "n1", ROOM, T0)
        again = ledger.rebook("b", until, "node n1 is gone")
        assert (again.state, again.node_id, again.expires_at) == (ReservationState.SOFT, None, until)
        assert ledger.get("b") == (again,)
        assert ledger.commit("b", "n2", ROOM, T0).node_id == "n2"
