"""A resource type of somebody's own is one file, this one: licence seats, which no node has.

It is found by an entry point as a package declares one, and nothing of preprov names it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from preprov.app import open_app
from preprov.contracts import Clock, Holding, Ports, Unit
from preprov.model.errors import OverbookedError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, ReservationState
from preprov.testing.allocatable_contract import AllocatableContract
from preprov.testing.local_nodes import cleared
from preprov.web.application import create_api
from tests.contract.allocating.test_types import SimWorld
from tests.unit.cli.test_commands import valid
from tests.volumeworld import node_of

THERE: Mapping[str, float] = {"seats": 10.0}


class Seats:
    """Of a licence server that has ten."""

    kind = "seat"

    def __init__(self, ports: Ports, clock: Clock) -> None:
        self._ledger, self._clock = ports.ledger, clock

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        held = [r for r in self._ledger.reservations(pool.name) if r.units and r.units.kind == self.kind]
        return tuple(
            Unit(self.kind, r.claimant, pool.name, r.node_id or "", _holding(r), r.amounts, (r.claimant,)) for r in held
        )

    def reserve(self, pool: Pool, claim: Reservation) -> Reservation:
        if claim.amounts["seats"] > THERE["seats"]:
            raise OverbookedError("there are ten seats", where=pool.name, hint="fewer")
        return self._ledger.reserve(claim)

    def allocate(self, pool: Pool, claim: Reservation, node: Node) -> Reservation:
        return self._ledger.allot(claim.reservation_id, node.node_id, {}, THERE, self._clock.now())

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        return self._ledger.allot(claim.reservation_id, node.node_id, amount, THERE, self._clock.now())

    def release(self, pool: Pool, claim: Reservation, node: Node | None, reason: str) -> Reservation:
        return self._ledger.release(claim.reservation_id, reason)


def _holding(r: Reservation) -> Holding:
    return Holding.ALLOCATED if r.state is ReservationState.COMMITTED else Holding.RESERVED


class SeatWorld(SimWorld):
    purpose = Purpose.UNITS
    amount: Mapping[str, float] = {"seats": 6.0}
    too_much: Mapping[str, float] = {"seats": 11.0}

    def __init__(self) -> None:
        super().__init__()
        self.type = Seats(self.ctx.ports, self.clock)


class TestSeats(AllocatableContract):
    @pytest.fixture
    def world(self) -> SeatWorld:
        return SeatWorld()


@pytest.fixture
def node(preprov, tmp_path: Path, preprov_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a pool whose nodes are ready at once, where a package that declares the type is installed."""
    package = tmp_path / "site" / "seats-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: seats\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[preprov.resource_types]\nseat = {__name__}:Seats\n")
    monkeypatch.syspath_prepend(str(package.parent))
    group = 'name = "g"\nprovider = "local"\nmax_nodes = 2\noffering = [{ type = "m", cpu = 1, memory = 1 }]'
    (tmp_path / "preprov.toml").write_text(f'[[pool]]\nname = "laptop"\nmode = "full"\n[[pool.group]]\n{group}\n')
    with cleared(preprov_home), open_app() as app:
        yield node_of(app.ctx.provider("local"), app.ctx.pool("laptop")).node_id


def test_seats_from_claim_to_release_by_the_command_line(preprov, node: str) -> None:
    def told(*words: object) -> dict:
        result = preprov("reservation", *words, "-o", "json")
        assert result.code == 0, result.err
        return valid(result.json)

    def units() -> list[tuple]:
        found = told("units", "--pool", "laptop", "--kind", "seat")["units"]
        return [(u["name"], u["node_id"], u["holding"], u["amount"]) for u in found]

    def wants(claimant: str, seats: float) -> dict:
        words = ("--pool", "laptop", "--claimant", claimant, "--kind", "seat", "--amount", f"seats={seats}")
        return told("create", *words)["reservation"]

    made, other = wants("cad", 6), wants("sim", 5)
    assert (made["purpose"], made["units"]) == ("units", {"kind": "seat", "amount": {"seats": 6.0}})
    assert units() == [("cad", "", "reserved", {"seats": 6.0}), ("sim", "", "reserved", {"seats": 5.0})]
    assert told("commit", made["reservation_id"], node)["reservation"]["node_id"] == node
    refused = preprov("reservation", "commit", other["reservation_id"], node)
    assert (refused.code, "11 seats of 10" in refused.err) == (1, True), refused.err
    assert told("resize", made["reservation_id"], "--amount", "seats=5")["reservation"]["units"]["amount"] == {
        "seats": 5
    }
    told("commit", other["reservation_id"], node)
    assert units() == [("cad", node, "allocated", {"seats": 5.0}), ("sim", node, "allocated", {"seats": 5.0})]
    assert "seat" in {u["kind"] for u in told("units", "--pool", "laptop")["units"]}
    assert told("release", made["reservation_id"])["reservation"]["state"] == "released"
    assert units() == [("sim", node, "allocated", {"seats": 5.0})]


def test_they_are_shown_and_given_back_by_the_api(preprov, node: str) -> None:
    words = ("--pool", "laptop", "--claimant", "cad", "--kind", "seat", "--amount", "seats=6")
    made = preprov("reservation", "create", *words, "-o", "json").json["reservation"]
    told = preprov("token", "create", "--tenant", "ops", "--scope", "admin", "-o", "json")
    with open_app() as app, TestClient(create_api(app)) as client:
        client.headers["Authorization"] = f"Bearer {told.json['token']}"
        where = f"/v1/reservations/{made['reservation_id']}"
        shown = client.get(where).json()
        assert (shown["purpose"], shown["units"]) == ("units", {"kind": "seat", "amount": {"seats": 6.0}})
        assert client.delete(where).json()["state"] == "released"


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "seat"),
        ("--amount", "seats=1"),
        ("--kind", "seat", "--amount", "seats=1", "--cpu", 1),
        ("--kind", "seat", "--amount", "seats=many"),
        ("--kind", "seat", "--amount", "seats=0"),
        ("--kind", "tape", "--amount", "tapes=1"),
        ("--kind", "seat", "--amount", "seats=11"),
    ],
)
def test_what_cannot_be_claimed_says_why(preprov, node: str, words: tuple) -> None:
    told = preprov("reservation", "create", "--pool", "laptop", "--claimant", "me", *words)
    assert told.code != 0
    assert any(w in told.err for w in ("units", "seat", "amount", "tape"))


def test_a_module_of_the_package_is_a_type_without_being_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from preprov.control import allocating
    from preprov.control.allocating.by_hand import units

    (tmp_path / "tapes.py").write_text(
        f"from {__name__} import Seats\n\nclass Tapes(Seats):\n    kind = 'tape'\n\n"
        "def types(ctx):\n    return (Tapes(ctx.ports, ctx.clock),)\n"
    )
    monkeypatch.setattr(allocating, "__path__", [*allocating.__path__, str(tmp_path)])
    world = SeatWorld()
    assert units(world.ctx, world.pool, "tape") == ()
