"""What every reservation ledger must do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from preprov.contracts import Ports
from preprov.model.errors import (
    OverbookedError,
    ReservationError,
)
from preprov.model.reservations import Purpose, Reservation, ReservationState, Segment, WantedUnits, WantedVolume
from preprov.model.resources import Resources
from preprov.testing.store_examples import (
    POOL,
    T0,
    PortsContract,
    claim,
    minutes,
)


def _from(start: datetime) -> tuple[Segment, ...]:
    return (Segment(start, start + minutes(30), Resources(cpu=1, memory=1)),)


class LedgerContract(PortsContract):
    """Reservations."""

    def test_a_claim_lives_from_soft_to_released(self, ports: Ports) -> None:
        """And committing or releasing twice changes nothing."""
        ledger, room = ports.ledger, Resources(cpu=4, memory=8)
        soft = ledger.reserve(claim("r1"))
        assert ledger.reservations(POOL) == (soft,)
        bound = ledger.commit("r1", "n1", room, T0)
        assert (bound.state, bound.node_id) == (ReservationState.COMMITTED, "n1")
        assert ledger.commit("r1", "n1", room, T0) == bound
        assert ledger.reservations(node_id="n1") == (bound,)
        assert ledger.release("r1", "done").state is ReservationState.RELEASED
        assert ledger.release("r1", "again").reason == "done"
        assert ledger.reservations(POOL) == ()
        assert len(ledger.reservations(POOL, live=False)) == 1

    def test_it_is_told_since_when_a_claim_is_bound(self, ports: Ports) -> None:
        """Not any more once its node is gone."""
        ledger, room = ports.ledger, Resources(cpu=4, memory=8)
        assert ledger.reserve(claim("r1")).bound_at is None
        ledger.commit("r1", "n1", room, T0)
        ledger.commit("r1", "n1", room, T0 + minutes(5))
        assert [r.bound_at for r in ledger.get("r1")] == [T0]
        ledger.rebook("r1", T0 + minutes(60), "its node is gone")
        assert [r.bound_at for r in ledger.get("r1")] == [None]

    def test_it_is_listed_in_pages_by_start_with_gangs_whole(self, ports: Ports) -> None:
        """Nothing twice and nothing left out, by tenant, pool and purpose, whatever has been released meanwhile."""
        ledger = ports.ledger
        for i in range(5):
            ledger.reserve(replace(claim(f"b{i}", claimant=f"c{i}"), segments=_from(T0 + minutes(5 - i))))
        gang = [replace(claim(f"g.{i}", claimant=f"g[{i}]"), gang="g", segments=_from(T0)) for i in range(11)]
        ledger.reserve_all(gang)
        ledger.reserve(replace(claim("t", claimant="t"), purpose=Purpose.TASK))
        ledger.reserve(replace(claim("other", claimant="o"), tenant="blue"))
        ledger.reserve(replace(claim("away", claimant="a"), pool="elsewhere"))
        ledger.release("b2")
        ledger.release("g.0")
        mine = {"tenant": "default", "pools": (POOL,)}

        def listed(limit: int, *, live: bool = True) -> list[str]:
            out: list[str] = []
            after = None
            while found := ledger.page({Purpose.BOOKING}, limit=limit, after=after, live=live, **mine):  # type: ignore[arg-type]
                assert len(found) <= limit
                out += [f"{g[0].gang or g[0].reservation_id}*{len(g)}" for g in found]
                after = min((r.start, r.reservation_id) for r in found[-1])
            return out

        for limit in (1, 2, 100):
            assert listed(limit) == ["g*10", "b4*1", "b3*1", "b1*1", "b0*1"]
            assert listed(limit, live=False) == ["g*11", "b4*1", "b3*1", "b2*1", "b1*1", "b0*1"]
        (whole,) = ledger.page({Purpose.BOOKING}, limit=1, live=False, **mine)  # type: ignore[arg-type]
        assert [r.reservation_id for r in whole] == [f"g.{i}" for i in range(11)], "as they were made"
        everybody = ledger.page(frozenset(Purpose), limit=100)
        assert {r.reservation_id for of in everybody for r in of} >= {"t", "other", "away", "b4"}
        assert [g[0].reservation_id for g in ledger.page({Purpose.TASK}, limit=9)] == ["t"]

    def test_what_is_long_over_is_forgotten_and_nothing_else(self, ports: Ports) -> None:
        """Gangs whole, once all of one is over; then the id may be used again."""
        ledger, now = ports.ledger, datetime.now(UTC)
        past, future = now - timedelta(days=1), now + timedelta(days=1)
        for name in ("live", "over", "void"):
            ledger.reserve(replace(claim(name, claimant=name), expires_at=T0))
        ledger.reserve_all([replace(claim(f"g.{i}", claimant=f"g[{i}]"), gang="g") for i in range(3)])
        ledger.reserve_all([replace(claim(f"h.{i}", claimant=f"h[{i}]"), gang="h") for i in range(2)])
        for name in ("over", "g.0", "g.1", "g.2", "h.0"):
            ledger.release(name)
        assert ledger.forget(past, 100) == 0, "not yet"
        assert ledger.forget(future, 100) == 4
        assert {r.reservation_id for r in ledger.reservations(live=False)} == {"live", "void", "h.0", "h.1"}
        assert ledger.get("g") == ()
        assert ledger.reserve(claim("over", claimant="over")).is_live
        ledger.release("h.1")
        assert ledger.forget(future, 100) == 2
        assert ledger.forget(future, 100) == 0

    def test_it_is_forgotten_bit_by_bit(self, ports: Ports) -> None:
        """So that nobody waits long for it."""
        ledger, later = ports.ledger, datetime.now(UTC) + timedelta(days=1)
        for i in range(7):
            ledger.reserve(claim(f"r{i}", claimant=f"c{i}"))
            ledger.release(f"r{i}")
        assert [ledger.forget(later, 3) for _ in range(4)] == [3, 3, 1, 0]

    def test_a_running_task_claims_more_or_less_from_now_on(self, ports: Ports) -> None:
        """What it gives up is there for others at once; more than the node has left it does not get."""
        ledger, room = ports.ledger, Resources(cpu=4, memory=8)
        ledger.reserve(replace(claim("r1", cpu=3), purpose=Purpose.TASK))
        with pytest.raises(ReservationError):
            ledger.resize("r1", Resources(cpu=1), room, T0)
        ledger.commit("r1", "n1", room, T0)
        later = T0 + minutes(1)
        less = ledger.resize("r1", Resources(cpu=1), room, later)
        assert (less.most, less.start) == (Resources(cpu=1), later)
        assert ledger.resize("r1", Resources(cpu=1), room, later + minutes(1)) == less
        ledger.reserve(replace(claim("r2", cpu=2), purpose=Purpose.TASK))
        ledger.commit("r2", "n1", room, later)
        with pytest.raises(OverbookedError):
            ledger.resize("r1", Resources(cpu=3), room, later)
        assert ledger.reservations(node_id="n1")[0].most.cpu + ledger.reservations(node_id="n1")[1].most.cpu == 3
        assert ledger.resize("r1", Resources(cpu=2), room, later).most == Resources(cpu=2)
        with pytest.raises(ReservationError):
            ledger.resize("nobody", Resources(cpu=2), room, later)

    def test_a_volume_is_one_claimants_at_a_time(self, ports: Ports) -> None:
        """Whoever waits gets it after its release; it grows in the books, and is held beyond its time."""
        ledger, room = ports.ledger, Resources(cpu=4, memory=8)

        def on(name: str, volume: str = "data") -> Reservation:
            wanted = WantedVolume(volume, 8, keep=name != "v1")
            return replace(claim(name, cpu=0), purpose=Purpose.VOLUME, volume=wanted)

        for made in (on("v1"), on("v2"), on("v3", "other")):
            assert ledger.reserve(made) == made
        bound = ledger.commit("v1", "n1", room, T0)
        assert ledger.commit("v1", "n1", room, T0) == bound
        assert ledger.commit("v3", "n1", room, T0).volume == WantedVolume("other", 8)
        for node in ("n1", "n2"):
            with pytest.raises(OverbookedError, match="data"):
                ledger.commit("v2", node, room, T0)
        assert [r.state for r in ledger.get("v2")] == [ReservationState.SOFT]
        assert ledger.grow("v1", 10).volume == WantedVolume("data", 10, keep=False)
        assert ledger.grow("v1", 9).volume == WantedVolume("data", 10, keep=False)
        assert ledger.get("v1")[0].amounts == {"disk": 10}
        with pytest.raises(ReservationError):
            ledger.grow("v2", 10)
        late = bound.end + minutes(60)
        ledger.expire(POOL, late)
        assert [r.reservation_id for r in ledger.reservations(node_id="n1")] == ["v1", "v3"]
        ledger.release("v1")
        waits = ledger.reserve(on("v4"))
        assert ledger.commit("v4", "n2", room, T0) == waits.commit("n2", T0)

    def test_tasks_whose_peaks_do_not_meet_share_a_node(self, ports: Ports) -> None:
        """Claims are added up instant by instant; one that is late holds what it held last."""
        ledger, room = ports.ledger, Resources(cpu=10, memory=10)

        def curve(name: str, at: float) -> Reservation:
            start = T0 + minutes(at)
            steps = ((0, 10, 1), (10, 15, 8), (15, 20, 2))
            segments = tuple(
                Segment(start + minutes(a), start + minutes(b), Resources(cpu=c, memory=1)) for a, b, c in steps
            )
            return replace(claim(name), segments=segments, purpose=Purpose.TASK)

        for name, at in (("a", 0), ("b", 5), ("meets", 2)):
            ledger.reserve(curve(name, at))
        ledger.commit("a", "n1", room, T0)
        with pytest.raises(OverbookedError):
            ledger.commit("meets", "n1", room, T0)
        assert ledger.commit("b", "n1", room, T0 + minutes(5)).segments == curve("b", 5).segments
        after = T0 + minutes(12)
        with pytest.raises(OverbookedError):
            ledger.resize("b", Resources(cpu=8, memory=1), room, after)
        assert ledger.resize("a", Resources(cpu=2, memory=1), room, after).segments == (
            Segment(after, T0 + minutes(20), Resources(cpu=2, memory=1)),
        )
        assert ledger.resize("b", Resources(cpu=8, memory=1), room, after).most.cpu == 8
        ledger.reserve(replace(curve("c", 0), claimant="late"))
        with pytest.raises(OverbookedError):  # both should be over, and hold ten cores
            ledger.commit("c", "n1", room, T0 + minutes(60))

    def test_segments_come_back_exactly(self, ports: Ports) -> None:
        """To the microsecond and to the bit."""
        start = T0 + timedelta(microseconds=1)
        segments = (
            Segment(start, start + minutes(1), Resources(cpu=0.1 + 0.2, network=1e-9)),
            Segment(start + minutes(5), start + minutes(6), Resources(gpu=3)),
        )
        made = replace(claim("r"), segments=segments, tenant="t", priority=7, expires_at=start, reason="why")
        ports.ledger.reserve(made)
        assert ports.ledger.reservations() == (made,)

    def test_a_claimant_has_one_live_claim(self, ports: Ports) -> None:
        """A second is answered with the first; in another pool it is another."""
        first = ports.ledger.reserve(claim("r1", claimant="job"))
        assert ports.ledger.reserve(claim("r2", claimant="job")) == first
        assert ports.ledger.reserve(claim("r1", claimant="job")) == first
        assert ports.ledger.reserve(claim("r3", claimant="job", pool="other")).reservation_id == "r3"
        ports.ledger.release("r1")
        assert ports.ledger.reserve(claim("r4", claimant="job")).reservation_id == "r4"

    def test_a_node_is_never_overbooked(self, ports: Ports) -> None:
        """But what does not overlap in time fits."""
        room = Resources(cpu=2, memory=8)
        for name, at in (("a", T0), ("b", T0), ("c", T0), ("d", T0 + minutes(10))):
            ports.ledger.reserve(claim(name, at=at))
        ports.ledger.commit("a", "n1", room, T0)
        ports.ledger.commit("b", "n1", room, T0)
        with pytest.raises(OverbookedError):
            ports.ledger.commit("c", "n1", room, T0)
        assert ports.ledger.commit("d", "n1", room, T0).node_id == "n1"
        assert ports.ledger.commit("c", "n2", room, T0).node_id == "n2"
        assert {r.reservation_id: r.node_id for r in ports.ledger.reservations(POOL)} == {
            "a": "n1",
            "b": "n1",
            "c": "n2",
            "d": "n1",
        }

    def test_units_are_never_allotted_beyond_what_there_is(self, ports: Ports) -> None:
        """Of one type, in one pool; what is given back is there again, and to have less is always right."""
        ledger, there = ports.ledger, {"seats": 5.0}

        def wants(name: str, kind: str = "licence") -> None:
            nothing = (Segment(T0, T0 + minutes(10), Resources()),)
            units = WantedUnits.of(kind, {"seats": 3.0})
            ledger.reserve(replace(claim(name), segments=nothing, purpose=Purpose.UNITS, units=units))

        for name in ("a", "b"):
            wants(name)
        wants("c", "another")
        with pytest.raises(ReservationError):
            ledger.commit("a", "n1", Resources(cpu=9), T0)
        bound = ledger.allot("a", "n1", {}, there, T0)
        assert ledger.allot("a", "n1", {"seats": 3.0}, there, T0) == bound == ledger.get("a")[0]
        assert (bound.node_id, bound.amounts) == ("n1", {"seats": 3.0})
        with pytest.raises(OverbookedError):
            ledger.allot("b", "n1", {}, there, T0)
        assert ledger.get("b")[0].state is ReservationState.SOFT
        with pytest.raises(OverbookedError):
            ledger.allot("a", "n1", {"seats": 6.0}, there, T0)
        with pytest.raises(ReservationError):
            ledger.allot("a", "n2", {}, there, T0)
        assert ledger.allot("c", "n1", {}, there, T0).state is ReservationState.COMMITTED
        assert ledger.allot("a", "n1", {"seats": 2.0}, {}, T0).amounts == {"seats": 2.0}
        assert ledger.allot("b", "n1", {}, there, T0).state is ReservationState.COMMITTED
        assert ledger.expire(POOL, T0 + minutes(60)) == 0
        assert {r.units for r in ledger.reservations(POOL)} == {r.units for n in "abc" for r in ledger.get(n)}
        with pytest.raises(ReservationError):
            ledger.allot("nobody", "n1", {}, there, T0)

    def test_many_small_claims_fill_a_node_to_the_brim(self, ports: Ports) -> None:
        """Ten tenths are one, whatever binary fractions say."""
        room = Resources(cpu=1, memory=1)
        for i in range(10):
            ports.ledger.reserve(claim(f"r{i}", cpu=0.1))
            ports.ledger.commit(f"r{i}", "n1", room, T0)
        ports.ledger.reserve(claim("one more", cpu=0.01))
        with pytest.raises(OverbookedError):
            ports.ledger.commit("one more", "n1", room, T0)

    def test_a_pool_is_not_promised_beyond_its_capacity(self, ports: Ports) -> None:
        """Soft claims count as well, while they live."""
        capacity = Resources(cpu=2, memory=8)
        ports.ledger.reserve(claim("a"), capacity)
        ports.ledger.reserve(claim("b"), capacity)
        with pytest.raises(OverbookedError):
            ports.ledger.reserve(claim("c"), capacity)
        assert [r.reservation_id for r in ports.ledger.reservations(POOL)] == ["a", "b"]
        ports.ledger.reserve(claim("later", at=T0 + minutes(10)), capacity)
        ports.ledger.release("a")
        assert ports.ledger.reserve(claim("c"), capacity).reservation_id == "c"

    def test_soft_claims_expire_and_commitments_do_not(self, ports: Ports) -> None:
        """At the instant named, not before."""
        end = T0 + minutes(1)
        for name in ("soft", "committed", "endless"):
            ports.ledger.reserve(claim(name, expires_at=None if name == "endless" else end))
        ports.ledger.commit("committed", "n1", Resources(cpu=9, memory=9), T0)
        assert ports.ledger.expire(POOL, end - timedelta(microseconds=1)) == 0
        assert ports.ledger.expire("other", end) == 0
        assert ports.ledger.expire(POOL, end) == 1
        assert {r.reservation_id for r in ports.ledger.reservations(POOL)} == {"committed", "endless"}

    def test_what_cannot_be_is_refused(self, ports: Ports) -> None:
        """Unknown, expired and final claims."""
        room = Resources(cpu=9, memory=9)
        with pytest.raises(ReservationError):
            ports.ledger.commit("none", "n", room, T0)
        with pytest.raises(ReservationError):
            ports.ledger.release("none")
        ports.ledger.reserve(claim("late", expires_at=T0))
        with pytest.raises(ReservationError):
            ports.ledger.commit("late", "n", room, T0)
        ports.ledger.reserve(claim("over"))
        ports.ledger.release("over")
        with pytest.raises(ReservationError):
            ports.ledger.commit("over", "n", room, T0)
        ports.ledger.reserve(claim("bound"))
        ports.ledger.commit("bound", "n1", room, T0)
        with pytest.raises(ReservationError):
            ports.ledger.commit("bound", "n2", room, T0)

    def test_claims_are_listed_by_start(self, ports: Ports) -> None:
        """Whatever order they were made in."""
        for name, later in (("c", 20), ("a", 0), ("b", 10)):
            ports.ledger.reserve(claim(name, at=T0 + minutes(later)))
        assert [r.reservation_id for r in ports.ledger.reservations()] == ["a", "b", "c"]
