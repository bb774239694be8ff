"""A node that warms is given a token of its own to call with; whoever loops looks at its pool at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from preprov.control.access import authenticate
from preprov.control.calling import GOOD_FOR, Calls, invite, node_says
from preprov.control.passes import pool_pass
from preprov.control.running import Runner
from preprov.model.access import Scope
from preprov.model.errors import AccessError, ThrottledError
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.notes import CALLBACK, gather
from preprov.model.pools import Mode
from preprov.sim.cloud import SimCloud
from tests.unit.control.world import dag, make_pool, make_world, task

URL = "https://preprov.example:8470"


@dataclass
class NotingCloud:
    """The simulated cloud, with nodes that can be left notes."""

    cloud: SimCloud
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    writes: int = 0
    refuses: bool = False

    def leave_notes(self, pool: object, node_ids: Sequence[str], notes: Mapping[str, str]) -> None:
        if self.refuses:
            raise ThrottledError("later")
        self.writes += 1
        for i in node_ids:
            self.notes.setdefault(i, {}).update(notes)

    def told(self, node_id: str) -> Mapping[str, str]:
        return gather(CALLBACK, self.notes.get(node_id, {})) or {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.cloud, name)


@pytest.fixture
def world():
    made = make_world()
    made.noting = NotingCloud(made.cloud)
    made.ctx = replace(made.ctx, providers={"sim": made.noting}, callback=URL)
    return made


def see(world):
    found = world.cloud.observe(world.pool)
    invite(world.ctx, world.pool, found)
    return found


def warming(world):
    """One node that warms, seen by a pass."""
    world.submit(dag("d", task("t", seconds=600)))
    pool_pass(world.ctx, world.pool)
    world.clock.sleep(5)
    found = pool_pass(world.ctx, world.pool).observation
    (node,) = found.nodes
    assert node.phase is Phase.WARMING
    return node


def test_a_node_that_warms_is_told_how_to_call_once(world):
    node = warming(world)
    told = world.noting.told(node.node_id)
    assert (told["url"], told["pool"]) == (URL, "p")
    token = authenticate(world.ctx, told["token"])
    assert (token.node_id, token.pools, token.scopes) == (node.node_id, ("p",), {Scope.NODE})
    assert told["token"].split("_", 2)[2] not in repr(token), "only a digest is kept"
    writes = world.noting.writes
    see(world)
    assert world.noting.writes == writes, "it has one"
    assert node_says(world.ctx, token, "ready")
    assert not node_says(world.ctx, token, "ready"), "it was good for one call"
    with pytest.raises(AccessError):
        authenticate(world.ctx, told["token"])
    see(world)
    assert world.noting.writes == writes, "a listing that lags gives nobody a second one"


def test_what_is_of_no_more_use_is_taken_back(world):
    node = warming(world)
    text = world.noting.told(node.node_id)["token"]
    world.clock.sleep(300)
    assert see(world).nodes[0].phase is Phase.READY
    assert world.noting.told(node.node_id) == {}
    with pytest.raises(AccessError):
        authenticate(world.ctx, text)
    writes = world.noting.writes
    see(world)
    assert world.noting.writes == writes


def test_a_token_is_replaced_when_it_expires_and_goes_with_its_node(world):
    node = warming(world)
    found = world.cloud.observe(world.pool)
    first = world.noting.told(node.node_id)["token"]
    world.clock.sleep(GOOD_FOR.total_seconds())
    invite(world.ctx, world.pool, found)  # it still warms
    second = world.noting.told(node.node_id)["token"]
    assert second != first
    with pytest.raises(AccessError):
        authenticate(world.ctx, first)
    gone = PoolObservation("p", world.clock.now(), ())
    invite(world.ctx, world.pool, replace(gone, complete=False))
    assert authenticate(world.ctx, second), "absence in a listing that is not whole proves nothing"
    invite(world.ctx, world.pool, gone)
    with pytest.raises(AccessError):
        authenticate(world.ctx, second)
    world.clock.sleep(timedelta(days=2).total_seconds())
    invite(world.ctx, world.pool, gone)
    assert world.ctx.ports.tokens.tokens() == ()


def test_nothing_is_left_where_a_pool_is_only_observed_or_the_cloud_refuses(world):
    node = warming(world)
    found = world.cloud.observe(world.pool)
    world.noting.notes.clear()
    for t in world.ctx.ports.tokens.tokens():
        world.ctx.ports.tokens.revoke(t.token_id, world.clock.now())
    invite(world.ctx, make_pool(mode=Mode.OBSERVE), found)
    invite(replace(world.ctx, callback=""), world.pool, found)
    assert world.noting.notes == {}
    world.noting.refuses = True
    invite(world.ctx, world.pool, found)
    assert not any(t.is_good(world.clock.now()) for t in world.ctx.ports.tokens.tokens()), "one that nobody has"
    world.noting.refuses = False
    invite(world.ctx, world.pool, found)
    assert world.noting.told(node.node_id)["token"]


def test_the_loop_looks_at_the_pool_of_a_node_that_called_and_at_no_other(world, monkeypatch):
    monkeypatch.setattr("preprov.control.running.LISTEN_S", 0.001)
    node = warming(world)
    other = make_pool(name="q")
    ctx = replace(world.ctx, pools={"p": world.pool, "q": other})
    seen = []

    def passed(result):
        seen.append(result.pool)
        if seen == ["p", "q"]:
            node_says(ctx, authenticate(ctx, world.noting.told(node.node_id)["token"]), "ready")
        if len(seen) == 3:
            runner.stop()

    runner = Runner(ctx, [world.pool, other], tick_s=3600, on_pass=passed)
    runner.run()
    assert seen == ["p", "q", "p"]


def test_a_call_is_heard_once(world):
    node = warming(world)
    calls = Calls(world.ctx)
    assert calls.pools() == frozenset()
    node_says(world.ctx, authenticate(world.ctx, world.noting.told(node.node_id)["token"]), "ready")
    assert calls.pools() == {"p"}
    assert calls.pools() == frozenset()
    assert Calls(world.ctx).pools() == frozenset(), "who begins anew looks at everything anyway"
