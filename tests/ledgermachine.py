"""Random clients of a ledger, beside an obvious one: what is claimed is reckoned by `tests.ledgertruth`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from preprov.contracts import ReservationLedger
from preprov.model.errors import OverbookedError, ReservationError
from preprov.model.reservations import Binding, Purpose, Quota, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.testing.store_examples import POOL, T0, minutes
from tests.ledgertruth import peak

ROOM = Resources(cpu=4, memory=9)
POOL_ROOM = Resources(cpu=9, memory=30)
LIMIT = Resources(cpu=5, memory=30)
NODES = ("n1", "n2")
TENANTS = ("red", "blue")
_MICROSECOND = timedelta(microseconds=1)

purposes = st.sampled_from((Purpose.TASK, Purpose.TASK, Purpose.BOOKING, Purpose.WINDOW))
instants = st.sampled_from((0, 0, 0, 10, 25, 26, 45, 60)).map(lambda m: T0 + minutes(m))


@st.composite
def segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    """One to three segments in order, within an hour."""
    cuts = draw(st.sampled_from(((0, 12), (0, 5), (4, 12), (0, 3, 6, 12), (2, 4, 5, 6, 9, 11))))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    size = st.sampled_from((0.1, 0.7, 1.0, 2.5))
    return tuple(
        Segment(T0 + minutes(5 * a), T0 + minutes(5 * b), Resources(cpu=draw(size), memory=1)) for a, b in pairs
    )


class Refused(Exception):
    """What the ledger must refuse."""

    def __init__(self, kind: type[ReservationError]) -> None:
        self.kind = kind


class Truth:
    """The obvious ledger: a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[str, Reservation] = {}

    def live(self) -> list[Reservation]:
        return [r for r in self.rows.values() if r.is_live]

    def named(self, name: str) -> tuple[Reservation, ...]:
        if name in self.rows:
            return (self.rows[name],)
        return tuple(r for r in self.rows.values() if r.gang == name and name)

    def reserve_all(
        self, gang: Sequence[Reservation], capacity: Resources | None, quota: Quota | None
    ) -> tuple[Reservation, ...]:
        if known := self.named(gang[0].gang or gang[0].reservation_id):
            return known
        for r in gang:
            held = [x for x in self.live() if (x.tenant, x.claimant) == (r.tenant, r.claimant)]
            if held:
                return self.named(held[0].gang or held[0].reservation_id)
        start, end = min(r.start for r in gang), max(r.end for r in gang)
        if capacity is not None and not peak([*self.live(), *gang], start, end).fits_in(capacity):
            raise Refused(OverbookedError)
        if quota is not None:
            mine = [r for r in [*self.live(), *gang] if r.tenant == quota.tenant and _counts(r)]
            if not peak(mine, start, end).fits_in(quota.limit):
                raise Refused(OverbookedError)
        self.rows.update({r.reservation_id: r for r in gang})
        return tuple(gang)

    def commit_all(self, bindings: Sequence[Binding], at: datetime, quota: Quota | None) -> tuple[Reservation, ...]:
        after = dict(self.rows)
        changed = []
        for b in bindings:
            try:
                bound = after[b.reservation_id].commit(b.node_id, at)
            except (KeyError, ReservationError):
                raise Refused(ReservationError) from None
            if bound is not after[b.reservation_id]:
                after[b.reservation_id] = bound
                changed.append(bound)
                if bound.under:
                    after[bound.under] = after[bound.under].used(bound.most, bound.start)
        committed = [r for r in after.values() if r.state is ReservationState.COMMITTED]
        for b in bindings:
            mine = [r for r in changed if r.node_id == b.node_id]
            on_node = [r for r in committed if r.node_id == b.node_id]
            if mine and not self._fits(on_node, mine, b.allocatable, at):
                raise Refused(OverbookedError)
        of_tenant = [r for r in committed if quota and r.tenant == quota.tenant]
        if quota is not None and changed and not self._fits(of_tenant, changed, quota.limit, None):
            raise Refused(OverbookedError)
        self.rows = after
        return tuple(after[b.reservation_id] for b in bindings)

    def resize(self, name: str, amount: Resources, at: datetime) -> Reservation:
        before = self.rows.get(name)
        if before is None or before.state is not ReservationState.COMMITTED or before.purpose is not Purpose.TASK:
            raise Refused(ReservationError)
        if before.segments == (replace(before.segments[0], amount=amount),):
            return before
        span = (at, before.end) if before.end > at else (at - _MICROSECOND, at)
        after = replace(before, segments=(Segment(*span, amount),))
        on_node = [r for r in self.rows.values() if r.node_id == before.node_id and r.is_live]
        there = [after if r is before else r for r in on_node if r.state is ReservationState.COMMITTED]
        lower = len(before.segments) == 1 and before.start <= at and amount.fits_in(before.segments[0].amount)
        if not lower and not self._fits(there, [after], ROOM, at):
            raise Refused(OverbookedError)
        self.rows[name] = after
        return after

    @staticmethod
    def _fits(claims: list[Reservation], new: list[Reservation], room: Resources, at: datetime | None) -> bool:
        start, end = min(r.start for r in new), max(r.end for r in new)
        if at is not None:
            end = max(end, at + _MICROSECOND)
        return peak(claims, start, end, at).fits_in(room)


def _counts(r: Reservation) -> bool:
    return r.state is ReservationState.COMMITTED or r.purpose is not Purpose.TASK


class LedgerMachine(RuleBasedStateMachine):
    """Subclass it with a `begin` that sets `ledger`."""

    ledger: ReservationLedger

    @initialize()
    def begin_with_nothing(self) -> None:
        self.ledger = self.make()
        self.truth = Truth()
        self.asked: list[tuple[Reservation, ...]] = []
        self.booked: dict[str, Reservation] = {}

    def make(self) -> ReservationLedger:
        raise NotImplementedError

    def same(self, ask: Callable[[], object], wanted: Callable[[], object]) -> None:
        """Both answer the same, or both refuse for the same reason."""
        try:
            expected = wanted()
        except Refused as refused:
            with pytest.raises(refused.kind):
                ask()
            return
        assert ask() == expected

    @rule(
        shape=segments(),
        claimant=st.sampled_from("abcdefghijklmnop"),
        tenant=st.sampled_from((*TENANTS, "red")),
        purpose=purposes,
        count=st.sampled_from((1, 1, 2, 3)),
        capacity=st.sampled_from((None, None, POOL_ROOM)),
        limited=st.sampled_from((False, False, True)),
        ttl=st.sampled_from((None, None, T0 + minutes(25))),
        pick=st.none() | st.integers(0, 99),
    )
    def reserve(
        self,
        shape: tuple[Segment, ...],
        claimant: str,
        tenant: str,
        purpose: Purpose,
        count: int,
        capacity: Resources | None,
        limited: bool,
        ttl: datetime | None,
        pick: int | None,
    ) -> None:
        name = f"r{len(self.asked):03}"
        first = Reservation(name, POOL, claimant, shape, tenant=tenant, purpose=purpose, expires_at=ttl)
        if purpose is Purpose.TASK and pick is not None:
            holders = [r for r in self.truth.rows.values() if r.tenant == tenant and r.purpose is not Purpose.TASK]
            if holders:
                first = replace(first, under=holders[pick % len(holders)].reservation_id)
        gang: tuple[Reservation, ...] = (first,)
        if count > 1:
            gang = tuple(
                replace(first, reservation_id=f"{name}.{i}", claimant=f"{claimant}[{i}]", gang=name)
                for i in range(count)
            )
        self.asked.append(gang)
        self._ask(gang, capacity, Quota(POOL, tenant, LIMIT) if limited else None)

    @rule(shape=segments(), purpose=purposes, node=st.sampled_from(NODES), at=instants, pick=st.integers(0, 99))
    def begin(self, shape: tuple[Segment, ...], purpose: Purpose, node: str, at: datetime, pick: int) -> None:
        """Reserve and commit in one go, a task under what is held on that node, if anything is."""
        name = f"r{len(self.asked):03}"
        held = [r for r in self.truth.live() if r.node_id == node and r.purpose is not Purpose.TASK]
        under = held[pick % len(held)].reservation_id if held and purpose is Purpose.TASK else ""
        made = Reservation(name, POOL, name, shape, tenant="red", purpose=purpose, under=under)
        if under and self.truth.rows[under].tenant != "red":
            return
        self.asked.append((made,))
        self._ask((made,), None, None)
        bindings = [Binding(name, node, ROOM)]
        self.same(lambda: self.ledger.commit_all(bindings, at), lambda: self.truth.commit_all(bindings, at, None))

    @rule(pick=st.integers(0, 99))
    def reserve_again(self, pick: int) -> None:
        if self.asked:
            self._ask(self.asked[pick % len(self.asked)], None, None)

    def _ask(self, gang: tuple[Reservation, ...], capacity: Resources | None, quota: Quota | None) -> None:
        self.same(
            lambda: self.ledger.reserve_all(gang, capacity, quota),
            lambda: self.truth.reserve_all(gang, capacity, quota),
        )

    @rule(
        picks=st.lists(st.integers(0, 99), min_size=1, max_size=3),
        draw=st.data(),
        at=instants,
        limited=st.sampled_from((False, False, True)),
    )
    def commit(self, picks: list[int], draw: st.DataObject, at: datetime, limited: bool) -> None:
        waiting = [n for n, r in self.truth.rows.items() if r.state is ReservationState.SOFT]
        known = waiting if waiting and picks[0] % 4 else [*self.truth.rows, "nobody"]
        names = dict.fromkeys(known[p % len(known)] for p in picks)
        rows = [self.truth.rows.get(n) for n in names]
        tenants = {r.tenant for r in rows if r}
        if len(tenants) > 1 or len({r.purpose is Purpose.TASK for r in rows if r}) > 1:
            return  # one call binds what belongs together
        bindings = [Binding(n, draw.draw(st.sampled_from(NODES)), ROOM) for n in names]
        quota = Quota(POOL, tenants.pop(), LIMIT) if limited and tenants else None
        self.same(
            lambda: self.ledger.commit_all(bindings, at, quota),
            lambda: self.truth.commit_all(bindings, at, quota),
        )

    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        self._change(pick, lambda r: r.release("given back"), lambda name: self.ledger.release(name, "given back"))

    @rule(pick=st.integers(0, 99), at=instants)
    def rebook(self, pick: int, at: datetime) -> None:
        self._change(pick, lambda r: r.rebook(at, "gone"), lambda name: self.ledger.rebook(name, at, "gone"))

    def _change(
        self, pick: int, change: Callable[[Reservation], Reservation], ask: Callable[[str], Reservation]
    ) -> None:
        known = [*sorted(self.truth.rows), "nobody"]
        name = known[pick % len(known)]
        if name == "nobody":
            with pytest.raises(ReservationError):
                ask(name)
            return
        self.truth.rows[name] = change(self.truth.rows[name])
        assert ask(name) == self.truth.rows[name]

    @rule(pick=st.integers(0, 99), amount=st.sampled_from((0.1, 0.7, 1.0, 2.5, 3.5)), at=instants)
    def resize(self, pick: int, amount: float, at: datetime) -> None:
        running = [n for n, r in self.truth.rows.items() if r.node_id and r.purpose is Purpose.TASK and r.is_live]
        known = running if running and pick % 4 else [*sorted(self.truth.rows), "nobody"]
        name, wanted = known[pick % len(known)], Resources(cpu=amount, memory=1)
        self.same(lambda: self.ledger.resize(name, wanted, ROOM, at), lambda: self.truth.resize(name, wanted, at))

    @rule(at=instants)
    def expire(self, at: datetime) -> None:
        after = {n: r.expire(at) for n, r in self.truth.rows.items()}
        assert self.ledger.expire(POOL, at) == sum(after[n] is not r for n, r in self.truth.rows.items())
        self.truth.rows = after

    @invariant()
    def the_ledger_tells_the_truth(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert {r.reservation_id: r for r in self.ledger.reservations(live=False)} == self.truth.rows
        assert {r.reservation_id for r in self.ledger.reservations()} == {r.reservation_id for r in self.truth.live()}
        live = [(r.tenant, r.claimant) for r in self.truth.live()]
        assert len(set(live)) == len(live)

    @invariant()
    def nothing_is_overbooked(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for node in NODES:
            on_node = self.ledger.reservations(POOL, node_id=node)
            assert peak(on_node, T0, T0 + minutes(60)).fits_in(ROOM)

    @invariant()
    def a_booking_never_grows(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for r in self.ledger.reservations():
            before = self.booked.get(r.reservation_id)
            if r.purpose is Purpose.BOOKING and before is not None:
                for minute in range(60):
                    t = T0 + minutes(minute)
                    assert peak([r], t, t + _MICROSECOND).fits_in(peak([before], t, t + _MICROSECOND))
            self.booked[r.reservation_id] = r


SETTINGS = settings(
    max_examples=15, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
