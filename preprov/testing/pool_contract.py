"""What every pool provider must do, whatever is behind it: one suite, run against each.

Subclass `PoolContract` and give it a fixture `world`:

    class TestMine(PoolContract):
        @pytest.fixture
        def world(self) -> Iterator[PoolWorld]:
            yield MyWorld()

What a provider cannot do it declares in its `Capabilities`; the tests of it are then skipped. With the plugin
`preprov.testing.pool_report` a table of what each declares is printed at the end.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from preprov.model.errors import InsufficientCapacityError, NodeBusyError, NotFoundError, PoolError, QuotaExceededError
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload, Standby
from preprov.testing.image_contract import ImageContract
from preprov.testing.pool_report import DECLARES, declared
from preprov.testing.pool_tiers import TierContract
from preprov.testing.pool_world import PoolWorld

__all__ = ["PoolContract", "PoolWorld"]

_ROUNDED: Final = timedelta(seconds=2)
"""Clouds tell of instants in whole seconds."""


class PoolContract(TierContract, ImageContract):
    """The suite."""

    # ------------------------------------------------------------------ capabilities

    def test_capabilities_are_declared_and_constant(
        self, world: PoolWorld, record_property: Callable[[str, object], None]
    ) -> None:
        """Every group can run nodes; asking again gives the same."""
        record_property(DECLARES, declared(self.can(world)))
        for group in world.pool.groups:
            can = world.provider.capabilities(world.pool, group.name)
            assert Standby.RUNNING in can.standby_states
            assert can.standby_states <= group.standby_states | {Standby.COLD}
            assert can == world.again().capabilities(world.pool, group.name)

    # ------------------------------------------------------------------ launch and observe

    def test_an_empty_pool_is_observed_as_empty(self, world: PoolWorld) -> None:
        """Nothing there is no error."""
        assert self.seen(world) == {}

    def test_what_was_launched_is_observed(self, world: PoolWorld) -> None:
        """Launched nodes carry pool, group, offering, token and tags, and are on their way."""
        request = self.ask(world, 2)
        ids = world.provider.launch(request)
        assert len(set(ids)) == 2
        world.until(lambda: set(ids) <= set(self.seen(world)), "the launched nodes to be listed")
        for node in self.seen(world).values():
            assert (node.pool, node.group) == (world.pool.name, request.group)
            assert node.offering == request.offering
            if self.can(world).marks_launches:
                assert (node.token, node.tags["purpose"]) == (request.token, "test")
            assert node.phase in (Phase.WARMING, Phase.READY)
            assert node.standby is Standby.RUNNING

    def test_a_token_launches_once(self, world: PoolWorld) -> None:
        """Sent again, by us or by a restarted controller, it names the same nodes and makes none."""
        request = self.ask(world, 2)
        ids = world.provider.launch(request)
        same = sorted(ids) if self.can(world).marks_launches else []
        assert sorted(world.provider.launch(request)) == same
        assert sorted(world.again().launch(request)) == same
        self.wait(world, ids, Phase.READY)
        assert sorted(world.provider.launch(request)) == same
        assert sorted(self.seen(world)) == sorted(ids)

    def test_another_token_launches_more(self, world: PoolWorld) -> None:
        """Tokens are what tells launches apart."""
        first = world.provider.launch(self.ask(world, 1))
        second = world.provider.launch(self.ask(world, 1))
        assert not set(first) & set(second)
        self.wait(world, (*first, *second), Phase.READY)
        assert set(self.seen(world)) == {*first, *second}

    def test_a_token_never_makes_again_what_was_ended(self, world: PoolWorld) -> None:
        """A repeated launch is not a way back to life."""
        self.needs_names(world)
        request = self.ask(world, 1)
        ids = world.provider.launch(request)
        self.wait(world, ids, Phase.READY)
        world.provider.terminate(world.pool, ids)
        world.until(lambda: not self.seen(world), "the node to be gone")
        world.provider.launch(request)
        assert self.seen(world) == {}

    def test_a_node_warms_and_then_is_ready(self, world: PoolWorld) -> None:
        """Ready says when, from where, and how long each stage took; nothing runs there yet."""
        (node,) = self.ready(world)
        assert node.ready_at is not None
        assert node.created_at <= node.ready_at
        assert node.came_from is Standby.COLD
        assert all(s >= 0 for s in node.stages.values())
        assert node.running == ()
        assert not node.is_busy

    def test_pools_do_not_see_each_other(self, world: PoolWorld) -> None:
        """Nodes are told apart by the pool's tag."""
        self.ready(world)
        other = replace(world.pool, name=f"{world.pool.name}-other")
        assert world.provider.observe(other).nodes == ()

    def test_a_new_instance_sees_the_same(self, world: PoolWorld) -> None:
        """Nothing is remembered: who comes later finds nodes, tokens and tags in the world itself."""
        self.ready(world, 2)
        before, after = self.seen(world), self.seen(world, world.again())
        assert sorted(before) == sorted(after)
        for node_id, old in before.items():
            new = after[node_id]
            assert (new.token, dict(new.tags), new.group) == (old.token, dict(old.tags), old.group)
            assert (new.phase, new.offering, new.preloaded) == (old.phase, old.offering, old.preloaded)

    def test_no_more_than_the_group_allows(self, world: PoolWorld) -> None:
        """max_nodes is a limit: fewer nodes come, then none and an error that says so."""
        group = replace(world.pool.groups[0], max_nodes=2)
        pool = replace(world.pool, groups=(group, *world.pool.groups[1:]))
        assert len(world.provider.launch(self.ask(world, 3, pool=pool))) == 2
        with pytest.raises(QuotaExceededError):
            world.provider.launch(self.ask(world, 1, pool=pool))

    def test_no_machines_left(self, world: PoolWorld) -> None:
        """The cloud's lack of machines is told apart from our own limit, and may be over later."""
        pool = world.exhausted()
        if pool is None:
            pytest.skip("this provider cannot be made to run out of machines")
        with pytest.raises(InsufficientCapacityError) as e:
            world.provider.launch(self.ask(world, 1, pool=pool))
        assert e.value.retryable

    # ------------------------------------------------------------------ standby

    @pytest.mark.parametrize("state", [Standby.HIBERNATED, Standby.STOPPED])
    def test_into_standby_and_back_twice(self, world: PoolWorld, state: Standby) -> None:
        """The same node comes back, warms again, and says where it came from."""
        (first,) = self.ready(world)
        for _ in range(2):
            self.keep(world, state, [first.node_id])
            (kept,) = self.seen(world).values()
            assert kept.standby is state
            assert not kept.is_busy
            world.provider.start(world.pool, [first.node_id], Preload())
            (back,) = self.wait(world, (first.node_id,), Phase.READY)
            assert back.came_from is state
            assert back.created_at == first.created_at
            assert back.ready_at is not None
            assert first.ready_at is not None
            assert back.ready_at >= first.ready_at
            first = back

    @pytest.mark.parametrize("state", [Standby.HIBERNATED, Standby.STOPPED])
    def test_keeping_a_kept_node_changes_nothing(self, world: PoolWorld, state: Standby) -> None:
        """A repeated call is harmless."""
        (node,) = self.ready(world)
        self.keep(world, state, [node.node_id])
        before = self.seen(world)
        self.keep(world, state, [node.node_id])
        after = self.seen(world)
        assert {i: (n.phase, n.created_at) for i, n in after.items()} == {
            i: (n.phase, n.created_at) for i, n in before.items()
        }

    def test_from_hibernated_to_stopped(self, world: PoolWorld) -> None:
        """One kept state may follow the other."""
        if not world.provider.capabilities(world.pool, world.pool.groups[0].name).steps_down:
            pytest.skip("this provider wakes a hibernated node before it can be stopped")
        (node,) = self.ready(world)
        self.keep(world, Standby.HIBERNATED, [node.node_id])
        self.keep(world, Standby.STOPPED, [node.node_id])
        world.provider.start(world.pool, [node.node_id], Preload())
        (back,) = self.wait(world, (node.node_id,), Phase.READY)
        assert back.came_from is Standby.STOPPED, "its memory was given up"

    @pytest.mark.parametrize("state", [Standby.HIBERNATED, Standby.STOPPED])
    def test_a_kept_node_can_be_ended(self, world: PoolWorld, state: Standby) -> None:
        """Scale-down does not have to wake it for others to see."""
        (node,) = self.ready(world)
        self.keep(world, state, [node.node_id])
        world.provider.terminate(world.pool, [node.node_id])
        world.until(lambda: not self.seen(world), "the node to be gone")
        self._stays_gone(world)

    @pytest.mark.parametrize("state", [Standby.HIBERNATED, Standby.STOPPED])
    def test_a_kept_node_takes_no_task_before_it_is_handed_over(self, world: PoolWorld, state: Standby) -> None:
        """Kept nodes join nothing: only one that was started, and is ready again, can be given work."""
        (node,) = self.ready(world)
        self.keep(world, state, [node.node_id])
        (kept,) = self.seen(world).values()
        assert kept.running == ()
        with pytest.raises(PoolError):
            world.occupy(kept)
        world.provider.start(world.pool, [node.node_id], Preload())
        (waking,) = self.seen(world).values()
        assert waking.phase is not Phase.WARMING or waking.since > kept.since - _ROUNDED, "on its way from now on"
        (back,) = self.wait(world, (node.node_id,), Phase.READY)
        claimant = world.occupy(back)
        assert self.seen(world)[node.node_id].running == (claimant,)

    def test_starting_a_running_node_changes_nothing(self, world: PoolWorld) -> None:
        """It is left alone, with what runs there."""
        (node,) = self.ready(world)
        claimant = world.occupy(node)
        world.provider.start(world.pool, [node.node_id], Preload())
        (after,) = self.seen(world).values()
        assert (after.phase, after.ready_at) == (Phase.READY, node.ready_at)
        assert after.running == (claimant,)

    @pytest.mark.parametrize("state", [Standby.HIBERNATED, Standby.STOPPED])
    def test_a_state_the_group_does_not_declare_is_refused(self, world: PoolWorld, state: Standby) -> None:
        """Capabilities are declared, never assumed."""
        (node,) = self.ready(world)
        group = replace(world.pool.groups[0], standby_states=frozenset({Standby.RUNNING}))
        pool = replace(world.pool, groups=(group, *world.pool.groups[1:]))
        with pytest.raises(PoolError):
            (world.provider.hibernate if state is Standby.HIBERNATED else world.provider.stop)(pool, [node.node_id])
        assert self.seen(world)[node.node_id].phase is Phase.READY

    def test_absent_nodes_cannot_be_started_or_kept(self, world: PoolWorld) -> None:
        """The error names them."""
        with pytest.raises(NotFoundError, match="nobody-1"):
            world.provider.start(world.pool, ["nobody-1"], Preload())
        with pytest.raises(NotFoundError, match="nobody-1"):
            world.provider.stop(world.pool, ["nobody-1"])

    # ------------------------------------------------------------------ never end running work

    @pytest.mark.parametrize("verb", ["hibernate", "stop", "terminate"])
    def test_a_busy_node_is_refused_before_anything_is_done(self, world: PoolWorld, verb: str) -> None:
        """One busy node among several: none of them is touched, and the task runs on."""
        group = world.pool.groups[0].name
        states = world.provider.capabilities(world.pool, group).standby_states
        if {"hibernate": Standby.HIBERNATED, "stop": Standby.STOPPED}.get(verb, Standby.RUNNING) not in states:
            pytest.skip(f"this provider cannot {verb}")
        idle, busy = self.ready(world, 2)
        claimant = world.occupy(busy)
        with pytest.raises(NodeBusyError, match=busy.node_id):
            getattr(world.provider, verb)(world.pool, [idle.node_id, busy.node_id])
        nodes = self.seen(world)
        assert nodes[idle.node_id].phase is Phase.READY
        assert nodes[busy.node_id].phase is Phase.READY
        assert nodes[busy.node_id].running == (claimant,)
        world.free(busy)
        if not self.can(world).names_serving:
            return
        getattr(world.provider, verb)(world.pool, [idle.node_id, busy.node_id])
        world.until(lambda: not any(n.phase is Phase.READY for n in self.seen(world).values()), f"both nodes to {verb}")

    def test_what_a_refusal_left_alone_still_takes_tasks(self, world: PoolWorld) -> None:
        """A refused call leaves no trace on the idle nodes it named."""
        idle, busy = self.ready(world, 2)
        world.occupy(busy)
        with pytest.raises(NodeBusyError):
            world.provider.terminate(world.pool, [idle.node_id, busy.node_id])
        claimant = world.occupy(idle)
        assert self.seen(world)[idle.node_id].running == (claimant,)

    def test_what_preprov_has_started_is_nobody_elses(self, world: PoolWorld) -> None:
        """Its claim is in the ledger: as foreign work too it would be counted twice."""
        (node,) = self.ready(world)
        assert not node.foreign
        world.occupy(node)
        assert not self.seen(world)[node.node_id].foreign

    def test_terminate_is_idempotent(self, world: PoolWorld) -> None:
        """Gone is gone; ending what is gone, or never was, is success."""
        self.needs_names(world)
        (node,) = self.ready(world)
        world.provider.terminate(world.pool, [node.node_id])
        world.until(lambda: not self.seen(world), "the node to be gone")
        world.provider.terminate(world.pool, [node.node_id, "nobody-1"])
        world.again().terminate(world.pool, [node.node_id])
        self._stays_gone(world)

    def test_a_warming_node_can_be_ended(self, world: PoolWorld) -> None:
        """It runs nothing yet."""
        self.needs_names(world)
        ids = world.provider.launch(self.ask(world))
        world.provider.terminate(world.pool, ids)
        world.until(lambda: not self.seen(world), "the node to be gone")
        self._stays_gone(world)

    def _stays_gone(self, world: PoolWorld) -> None:
        """What was ended does not come back, and nothing comes in its place, for who looks anew either."""
        for _ in range(3):
            self._pass_time(world)
            assert self.seen(world, world.again()) == {}

    # ------------------------------------------------------------------ drain

    def test_draining_lets_work_end(self, world: PoolWorld) -> None:
        """No new task, but what runs there goes on; asking twice changes nothing."""
        (node,) = self.ready(world)
        claimant = world.occupy(node)
        world.provider.drain(world.pool, [node.node_id])
        world.provider.drain(world.pool, [node.node_id])
        (draining,) = self.wait(world, (node.node_id,), Phase.DRAINING)
        assert draining.running == (claimant,)
        with pytest.raises(NodeBusyError):
            world.provider.terminate(world.pool, [node.node_id])
        world.free(node)
        if not self.can(world).names_serving:
            return
        world.provider.terminate(world.pool, [node.node_id])
        world.until(lambda: not self.seen(world), "the node to be gone")

    def test_a_draining_node_takes_no_task(self, world: PoolWorld) -> None:
        """Whoever hands out tasks is refused."""
        (node,) = self.ready(world)
        world.provider.drain(world.pool, [node.node_id])
        (draining,) = self.wait(world, (node.node_id,), Phase.DRAINING)
        with pytest.raises(PoolError):
            world.occupy(draining)
        assert self.seen(world)[node.node_id].running == ()

    # ------------------------------------------------------------------ warm means verified

    def test_a_ready_node_has_what_was_asked_for(self, world: PoolWorld) -> None:
        """Image digests and dataset keys are there, checked, when it says that it is ready."""
        if not world.provider.capabilities(world.pool, world.pool.groups[0].name).preloads:
            pytest.skip("this provider cannot preload")
        ids = world.provider.launch(replace(self.ask(world), preload=world.preload))
        (node,) = self.wait(world, ids, Phase.READY)
        assert {i.digest for i in world.preload.images if i.digest} <= node.preloaded
        assert {d.key for d in world.preload.datasets} <= node.preloaded

    def test_a_failed_check_is_never_ready(self, world: PoolWorld) -> None:
        """It fails with a reason, is never handed out, and can be ended."""
        preload = world.spoiled()
        if preload is None:
            pytest.skip("this provider's checks cannot be made to fail")
        ids = world.provider.launch(replace(self.ask(world), preload=preload))
        phases: set[Phase] = set()

        def failed() -> bool:
            node = self.seen(world)[ids[0]]
            phases.add(node.phase)
            return node.phase is Phase.FAILED

        world.until(failed, "the node to fail its check")
        assert Phase.READY not in phases
        (node,) = self.seen(world).values()
        assert node.reason
        with pytest.raises(PoolError):
            world.occupy(node)
        world.provider.terminate(world.pool, ids)
        world.until(lambda: not self.seen(world), "the node to be gone")
