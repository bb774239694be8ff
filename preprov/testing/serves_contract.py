"""What every place must do whose limits and workers follow a pool: one suite, run against each.

Subclass `ServesContract` and give it a fixture `world` that yields a `ServesWorld`.
"""

from collections.abc import Mapping
from typing import Protocol

import pytest

from preprov.contracts import Serves
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.testing.store_examples import T0

SERIAL = "17.0"


class ServesWorld(Protocol):
    """A place with a worker nowhere, whose service names all the settings that it may be told.

    Attributes:
        place: under test; it starts workers.
        changes: another value than the present one for each setting of its service; empty = it has none.
        unknown: what the place has no setting for.
        secret: what opens the place; "" = nothing does.
    """

    place: Serves
    changes: Mapping[str, object]
    unknown: str
    secret: str

    def again(self) -> Serves:
        """Another instance over the same place, as after a restart of the controller."""
        ...

    def everything(self) -> object:
        """All that anybody could set there, whether the service names it or not: a copy, to be compared."""
        ...

    def give(self, worker: str) -> str:
        """A run of its own begins on the worker of that name; returns the run's id."""
        ...

    def finish(self, worker: str) -> None:
        """All runs of that worker end."""
        ...

    def away(self, is_away: bool) -> None:
        """From now on it does not answer, or answers again."""
        ...


def a_node(pool: str, node_id: str = "n/1") -> Node:
    """A ready node."""
    return Node(node_id, pool, "g", Offering("m", Resources(cpu=4, memory=8)), Phase.READY, T0, T0)


class ServesContract:
    """The suite."""

    # ------------------------------------------------------------------ looking and setting

    def test_looking_changes_nothing(self, world: ServesWorld) -> None:
        """It tells each setting of its service and no other, and of each limit how many runs count against it."""
        before, seen = world.everything(), world.place.look()
        assert world.place.look() == world.again().look() == seen
        assert set(seen.settings) == set(world.changes) == {*world.place.service.shares, *world.place.service.fills}
        assert dict(seen.held) == dict.fromkeys(world.place.service.shares, 0)
        assert dict(seen.runs) == {}
        assert world.everything() == before

    def test_what_is_written_is_set_and_written_again_it_changes_nothing(self, world: ServesWorld) -> None:
        """Whoever writes it."""
        world.place.write(world.changes)
        assert dict(world.place.look().settings) == dict(world.changes)
        after = world.everything()
        world.place.write(world.changes)
        world.again().write(world.changes)
        assert world.everything() == after

    def test_only_what_is_named_changes(self, world: ServesWorld) -> None:
        """One setting at a time, and nothing at all."""
        before, everything = dict(world.place.look().settings), world.everything()
        world.place.write({})
        assert world.everything() == everything
        for name, value in world.changes.items():
            world.place.write({name: value})
            assert dict(world.place.look().settings) == before | {name: value}
            world.place.write({name: before[name]})
            assert world.everything() == everything

    def test_it_can_be_put_back_as_it_was_found(self, world: ServesWorld) -> None:
        """By whoever has kept what was seen; a limit that there was not is none again."""
        found, everything = world.place.look().settings, world.everything()
        world.place.write(world.changes)
        assert not world.changes or world.everything() != everything
        world.again().write(found)
        assert world.everything() == everything

    def test_what_the_place_has_not_is_refused_whole(self, world: ServesWorld) -> None:
        """Nothing is invented there, and what it was told in the same breath is not done either."""
        before = world.everything()
        with pytest.raises(PoolError) as error:
            world.place.write({**world.changes, world.unknown: 3})
        assert not error.value.retryable
        assert world.everything() == before

    # ------------------------------------------------------------------ workers

    def test_a_worker_is_a_command_on_its_node_that_takes_no_room_of_its_own(self, world: ServesWorld) -> None:
        """The room is its runs'. The same node, waking and try give the same task, so that it is started once."""
        node = a_node(world.place.service.pool)
        task = world.place.worker(node, SERIAL, 7)
        assert task == world.again().worker(node, SERIAL, 7)
        assert task.spec.command
        assert "7" in task.spec.command, "as many runs at once as there is room for"
        assert task.spec.request.is_zero
        assert task.pool == node.pool
        others = [world.place.worker(node, "18.0", 7), world.place.worker(a_node(node.pool, "n/2"), SERIAL, 7)]
        assert len({t.claimant(0) for t in (task, *others)}) == 3

    def test_a_farewell_is_told_to_that_worker_and_no_other(self, world: ServesWorld) -> None:
        """It is a task beside the worker, of the same run, and says its name as the worker's own command does."""
        node = a_node(world.place.service.pool)
        worker, leave = world.place.worker(node, SERIAL, 7), world.place.farewell(node, SERIAL)
        assert leave == world.again().farewell(node, SERIAL)
        assert leave.run_id == worker.run_id
        assert leave.claimant(0) != worker.claimant(0)
        assert leave.spec.request.is_zero
        other = world.place.worker(node, "18.0", 7)
        told = set(leave.spec.command) - set(other.spec.command)
        assert told & set(worker.spec.command), "what tells this worker from the next"

    def test_nodes_are_told_no_secret(self, world: ServesWorld) -> None:
        """What opens the place is brought by the node's image or identity."""
        node = a_node(world.place.service.pool)
        for task in (world.place.worker(node, SERIAL, 7), world.place.farewell(node, SERIAL)):
            assert not world.secret or world.secret not in str(task)

    def test_a_worker_has_in_hand_what_it_runs(self, world: ServesWorld) -> None:
        """Under its own name, until it has ended; workers are told apart, and there is no end to their runs."""
        first, second = (world.place.worker_name(n, SERIAL) for n in ("n/1", "n/2"))
        assert first != second
        runs = {first: {world.give(first), world.give(first)}, second: {world.give(second)}}
        seen = world.place.look()
        assert {name: set(ids) for name, ids in seen.runs.items()} == runs
        assert set(seen.began) <= runs[first] | runs[second]
        assert all(at.tzinfo is not None for at in seen.began.values())
        for setting in world.place.service.shares:
            assert seen.held[setting] <= 3
        assert not seen.held or max(seen.held.values()) == 3, "all of them count against the whole limit"
        world.finish(first)
        assert set(world.again().look().runs) == {second}

    # ------------------------------------------------------------------ a place that is away

    def test_a_place_that_does_not_answer_is_asked_again(self, world: ServesWorld) -> None:
        """An error that may be gone the next time, and nothing was set; workers can be told what to do all along."""
        before, seen = world.everything(), world.place.look()
        world.away(True)
        with pytest.raises(PoolError) as error:
            world.place.look()
        assert error.value.retryable
        assert not world.secret or world.secret not in str(error.value)
        if world.changes:
            with pytest.raises(PoolError) as error:
                world.place.write(world.changes)
            assert error.value.retryable
        node = a_node(world.place.service.pool)
        assert world.place.worker(node, SERIAL, 7).run_id == world.place.farewell(node, SERIAL).run_id
        world.away(False)
        assert world.everything() == before
        assert world.place.look() == seen
