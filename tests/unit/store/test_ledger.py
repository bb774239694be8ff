"""The ledger against an obvious one, and under threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.exc import IntegrityError

from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Reservation, ReservationState, Segment, peak
from preprov.model.resources import Resources
from preprov.store.database import Store, open_store
from preprov.store.rows import ReservationRow
from preprov.testing.store_examples import POOL, T0, claim, minutes

ROOM = Resources(cpu=4, memory=4)
POOL_ROOM = Resources(cpu=9, memory=9)
NODES = ("n1", "n2")


@st.composite
def claims(draw: st.DrawFn) -> tuple[Segment, ...]:
    """One to three segments in order, within an hour."""
    cuts = sorted(draw(st.sets(st.integers(0, 12), min_size=2, max_size=6)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    size = st.sampled_from((0.1, 0.7, 1.0, 2.5))
    return tuple(
        Segment(T0 + minutes(5 * a), T0 + minutes(5 * b), Resources(cpu=draw(size), memory=1)) for a, b in pairs
    )


class Ledger(RuleBasedStateMachine):
    """Random clients; the truth is a dict of reservations and `model.reservations.peak`."""

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.store = open_store("", Path(self.folder.name))
        self.ledger = self.store.ports().ledger
        self.truth: dict[str, Reservation] = {}
        self.count = 0

    def live(self) -> list[Reservation]:
        return [r for r in self.truth.values() if r.is_live]

    def a_name(self, pick: int) -> str:
        return f"r{pick % (self.count + 1)}"

    @rule(
        segments=claims(), claimant=st.sampled_from("abcdef"), limited=st.booleans(), ttl=st.none() | st.integers(1, 60)
    )
    def reserve(self, segments: tuple[Segment, ...], claimant: str, limited: bool, ttl: int | None) -> None:
        self.count += 1
        expires_at = None if ttl is None else T0 + minutes(ttl)
        made = Reservation(f"r{self.count}", POOL, claimant, segments, expires_at=expires_at)
        held = next((r for r in self.live() if r.claimant == claimant), None)
        fits = peak([*self.live(), made], made.start, made.end).fits_in(POOL_ROOM)
        if held is not None:
            assert self.ledger.reserve(made, POOL_ROOM if limited else None) == held
        elif limited and not fits:
            with pytest.raises(OverbookedError):
                self.ledger.reserve(made, POOL_ROOM)
        else:
            assert self.ledger.reserve(made, POOL_ROOM if limited else None) == made
            self.truth[made.reservation_id] = made

    @rule(pick=st.integers(0, 99), node=st.sampled_from(NODES), late=st.integers(0, 60))
    def commit(self, pick: int, node: str, late: int) -> None:
        name, at = self.a_name(pick), T0 + minutes(late)
        before = self.truth.get(name)
        try:
            after = before.commit(node, at) if before else None
        except ReservationError:
            after = None
        if before is None or after is None:
            with pytest.raises(ReservationError):
                self.ledger.commit(name, node, ROOM, at)
            return
        others = [r for r in self.live() if r.node_id == node and r.reservation_id != name]
        if after != before and not peak([*others, after], after.start, after.end).fits_in(ROOM):
            with pytest.raises(OverbookedError):
                self.ledger.commit(name, node, ROOM, at)
            return
        assert self.ledger.commit(name, node, ROOM, at) == after
        self.truth[name] = after

    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        name = self.a_name(pick)
        if name not in self.truth:
            with pytest.raises(ReservationError):
                self.ledger.release(name)
            return
        self.truth[name] = self.truth[name].release("given back")
        assert self.ledger.release(name, "given back") == self.truth[name]

    @rule(late=st.integers(0, 60))
    def expire(self, late: int) -> None:
        after = {n: r.expire(T0 + minutes(late)) for n, r in self.truth.items()}
        assert self.ledger.expire(POOL, T0 + minutes(late)) == sum(after[n] != r for n, r in self.truth.items())
        self.truth = after

    @invariant()
    def the_ledger_tells_the_truth(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert {r.reservation_id: r for r in self.ledger.reservations(live=False)} == self.truth
        for node in NODES:
            on_node = self.ledger.reservations(POOL, node_id=node)
            assert peak(on_node, T0, T0 + minutes(60)).fits_in(ROOM)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestLedger = pytest.mark.slow(Ledger.TestCase)
TestLedger.settings = settings(
    max_examples=15, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow], deadline=None
)


def test_two_rows_of_one_claimant_cannot_be_written_even_past_the_port(store: Store) -> None:
    store.ports().ledger.reserve(claim("a", claimant="job"))

    def second(state: ReservationState) -> None:
        with store._db.write() as session:
            row = session.get_one(ReservationRow, 1).model_dump(exclude={"id"})
            session.add(ReservationRow(**(row | {"reservation_id": f"b-{state}", "state": str(state)})))

    second(ReservationState.RELEASED)
    with pytest.raises(Exception, match="UNIQUE") as error:
        second(ReservationState.COMMITTED)
    assert isinstance(error.value.__cause__, IntegrityError)


def test_threads_that_claim_at_once_get_what_there_is(store: Store) -> None:
    ledger = store.ports().ledger

    def take(i: int) -> bool:
        try:
            ledger.reserve(claim(f"r{i}"), ROOM)
            ledger.commit(f"r{i}", "n1", ROOM, T0)
        except OverbookedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(12))) == 4
    assert len(ledger.reservations(node_id="n1")) == 4


def test_threads_with_one_claimant_get_one_claim(store: Store) -> None:
    ledger = store.ports().ledger
    with ThreadPoolExecutor(8) as threads:
        got = set(threads.map(lambda i: ledger.reserve(claim(f"r{i}", claimant="job")).reservation_id, range(12)))
    assert len(got) == 1


def test_a_claim_that_is_not_soft_is_not_taken(store: Store) -> None:
    made = replace(claim("r"), state=ReservationState.COMMITTED, node_id="n1")
    with pytest.raises(ReservationError, match="committed"):
        store.ports().ledger.reserve(made)


def test_a_refusal_says_what_is_short(store: Store) -> None:
    ledger = store.ports().ledger
    ledger.reserve(claim("a", cpu=3))
    ledger.commit("a", "n1", ROOM, T0)
    ledger.reserve(claim("b", cpu=3))
    with pytest.raises(OverbookedError) as error:
        ledger.commit("b", "n1", ROOM, T0)
    assert "cpu 6 of 4" in str(error.value)
    assert "n1" in error.value.where
    assert ledger.reservations(POOL)[1].state is ReservationState.SOFT


def test_a_minute_of_the_year_9999_is_kept_exactly(store: Store) -> None:
    far = datetime.max.replace(tzinfo=T0.tzinfo) - timedelta(days=1)
    made = claim("far", at=far - minutes(10))
    store.ports().ledger.reserve(made)
    assert store.ports().ledger.reservations() == (made,)
