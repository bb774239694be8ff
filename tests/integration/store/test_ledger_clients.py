"""The ledger with 32 clients on a durable PostgreSQL, while clients and the server itself are killed: nothing lost.

Two thirds of them claim for single tasks, the others book gangs for a tenant with a quota.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from preprov.contracts import ReservationLedger
from preprov.model.errors import OverbookedError, ReservationError, StoreError, StoreUnavailableError
from preprov.model.reservations import Binding, Purpose, Quota, Reservation, ReservationState, Segment
from preprov.model.resources import Resources
from preprov.store.database import Store, open_store
from preprov.testing.store_examples import POOL, T0, minutes
from tests.ledgertruth import peak
from tests.postgres import SystemServer
from tests.processes import join, start

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS = 32
NODES = 6
ROOM = Resources(cpu=8, memory=32)
CAPACITY = Resources(cpu=60, memory=240)
RANK = {ReservationState.SOFT: 1, ReservationState.COMMITTED: 2, ReservationState.RELEASED: 3}
DEAD_CLIENTS = 12
KEPT = 0.02
"""Share of what is committed that is never given back: the rest would soon find no room."""
BOOKS = 3
"""Every so many-th client books gangs."""
QUOTA = Quota(POOL, "booker", Resources(cpu=20, memory=80))
ENOUGH = 1_500
"""Answers after which it ends."""


def a_claim(name: str, rng: random.Random) -> Reservation:
    """Of 1, 8 or 32 segments within half a day."""
    segments = some_segments(rng, rng.choice((1, 1, 1, 8, 32)))
    return Reservation(name, POOL, name, segments, expires_at=T0 + minutes(10_000), purpose=Purpose.TASK)


def a_gang(name: str, rng: random.Random) -> list[Reservation]:
    """As many as its name says, alike."""
    first = Reservation(
        name,
        POOL,
        name,
        some_segments(rng, rng.choice((1, 3))),
        tenant=QUOTA.tenant,
        expires_at=T0 + minutes(10_000),
        purpose=Purpose.BOOKING,
        gang=name,
    )
    return [replace(first, reservation_id=m, claimant=m) for m in members_of(name)]


def some_segments(rng: random.Random, count: int) -> tuple[Segment, ...]:
    at = T0 + minutes(rng.randrange(240))
    return tuple(
        Segment(at + minutes(10 * k), at + minutes(10 * k + 10), Resources(cpu=rng.choice((1, 2, 4)), memory=2))
        for k in range(count)
    )


def members_of(name: str) -> list[str]:
    """The reservations of what is answered under a name: `c1-7` is one, `c3-7x2` a gang of two."""
    _, is_gang, count = name.partition("x")
    return [f"{name}.{i}" for i in range(int(count))] if is_gang else [name]


def client(url: str, home: str, number: int) -> None:
    """Claim, commit, give back until told to stop; each answer is written down once it has come."""
    rng = random.Random(number)
    folder = Path(home)
    store = opened(url, folder)
    ledger = store.ports().ledger
    log = os.open(folder / f"answers-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    done = 0
    while not (folder / "stop").exists():
        name = f"c{number}-{done}" + (f"x{rng.randint(2, 4)}" if number % BOOKS == 0 else "")
        done += 1

        def answered(state: str, name: str = name) -> None:
            os.write(log, f"{state} {name}\n".encode())

        try:
            if number % BOOKS == 0:
                _gang(ledger, a_gang(name, rng), rng, answered)
            else:
                _one(ledger, a_claim(name, rng), rng, answered)
        except (OverbookedError, ReservationError):
            continue
        except StoreError:  # the server is gone: what was not answered may be or not be
            time.sleep(0.05)
    store.close()


def opened(url: str, folder: Path) -> Store:
    """Once the server is up again, if it is down."""
    while True:
        try:
            return open_store(url, folder)
        except StoreUnavailableError:
            time.sleep(0.1)


def _gang(
    ledger: ReservationLedger, wanted: list[Reservation], rng: random.Random, answered: Callable[[str], None]
) -> None:
    ledger.reserve_all(wanted, CAPACITY, QUOTA)
    answered("soft")
    bindings = [Binding(r.reservation_id, f"n{rng.randrange(NODES)}", ROOM) for r in wanted]
    kept = rng.random() < KEPT
    try:
        ledger.commit_all(bindings, T0, QUOTA)
        answered("committed")
    except OverbookedError:
        kept = False
    if not kept:
        for r in wanted:
            ledger.release(r.reservation_id, "done")
        answered("released")


def _one(ledger: ReservationLedger, wanted: Reservation, rng: random.Random, answered: Callable[[str], None]) -> None:
    ledger.reserve(wanted, CAPACITY)
    answered("soft")
    try:
        ledger.commit(wanted.reservation_id, f"n{rng.randrange(NODES)}", ROOM, T0)
        answered("committed")
    except OverbookedError:
        ledger.release(wanted.reservation_id, "no room")
        answered("released")
        return
    if rng.random() > KEPT:
        ledger.release(wanted.reservation_id, "done")
        answered("released")


def answers(folder: Path) -> dict[str, str]:
    """Reservation -> the last thing that was answered of it; a line that its writer did not finish is none."""
    out: dict[str, str] = {}
    for file in folder.glob("answers-*"):
        for line in file.read_text().splitlines():
            state, _, name = line.partition(" ")
            if state in ("soft", "committed", "released") and name:
                out[name] = state
    return out


def nothing_overbooked(live: list[Reservation], since: datetime, until: datetime) -> None:
    """On no node, nor in the pool."""
    assert len({r.claimant for r in live}) == len(live)
    for node in sorted({r.node_id for r in live if r.node_id}):
        assert peak([r for r in live if r.node_id == node], since, until).fits_in(ROOM), node
    assert peak(live, since, until).fits_in(CAPACITY)
    assert peak([r for r in live if r.tenant == QUOTA.tenant], since, until).fits_in(QUOTA.limit)


def gangs_are_whole(held: Iterable[Reservation]) -> int:
    """Made and bound all or none, whoever was killed in between; returns how many there are."""
    gangs: dict[str, list[Reservation]] = {}
    for r in held:
        if r.gang:
            gangs.setdefault(r.gang, []).append(r)
    for name, members in gangs.items():
        assert sorted(r.reservation_id for r in members) == members_of(name)
        states = {r.state for r in members}
        assert not states >= {ReservationState.SOFT, ReservationState.COMMITTED}, f"half of {name} is bound"
    return len(gangs)


def test_32_clients_overbook_nothing_and_lose_no_answer_while_they_and_the_server_are_killed(
    durable_server: SystemServer, tmp_path: Path
) -> None:
    url = durable_server.address
    open_store(url, tmp_path).close()
    rng = random.Random(1)
    clients = start(client, [(url, str(tmp_path), n) for n in range(CLIENTS)])
    killed, restarts, next_number = 0, 0, CLIENTS
    until = time.monotonic() + 200
    while (count := len(answers(tmp_path))) < ENOUGH:
        assert time.monotonic() < until, f"only {count} answers"
        if killed < DEAD_CLIENTS and count > ENOUGH * (killed + 1) / (DEAD_CLIENTS + 2):
            victim = clients.pop(rng.randrange(len(clients)))
            os.kill(int(victim.pid or 0), signal.SIGKILL)
            clients += start(client, [(url, str(tmp_path), next_number)])
            killed, next_number = killed + 1, next_number + 1
        if restarts < 2 and count > ENOUGH * (restarts + 1) / 3:
            durable_server.kill()
            durable_server.start()
            restarts += 1
        time.sleep(0.05)
    (tmp_path / "stop").touch()
    assert set(join(clients)) == {0}
    assert (killed, restarts) == (DEAD_CLIENTS, 2)

    store = open_store(url, tmp_path)
    held = {r.reservation_id: r for r in store.ports().ledger.reservations(POOL, live=False)}
    told = {member: state for name, state in answers(tmp_path).items() for member in members_of(name)}
    lost = [name for name in told if name not in held]
    assert lost == []
    behind = [n for n, state in told.items() if RANK[held[n].state] < RANK[ReservationState(state)]]
    assert behind == []
    nothing_overbooked([r for r in held.values() if r.is_live], T0, T0 + minutes(24 * 60))
    assert sum(r.state is ReservationState.RELEASED for r in held.values()) > 50
    assert gangs_are_whole(held.values()) > 20
    store.close()
