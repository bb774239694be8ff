"""What every provider must do that tells of past warmings: one suite, run against each.

Subclass `RecallContract` and give it a fixture `world` that yields a `RecallWorld`.
"""

from datetime import datetime, timedelta
from typing import Final, Protocol

import pytest

from preprov.contracts import RecallsLeads, Recollection
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.model.pools import Pool

STAGES: Final = frozenset({"allocate", "boot", "image", "data", "join"})
_SOON: Final = timedelta(seconds=1)


class RecallWorld(Protocol):
    """A vendor or a scheduler with a group of machines, and a record in which nothing has happened yet.

    Attributes:
        provider: under test. group: of the pool. began: before everything.
    """

    provider: RecallsLeads
    pool: Pool
    group: str
    began: datetime

    def warm(self, count: int) -> None:
        """So many machines of the group come into service one after the other, and it is no doing of preprov's."""
        ...

    def refuse(self) -> None:
        """From now on the record may not be read, or does not answer."""
        ...


def recalled(world: RecallWorld, since: datetime | None = None) -> Recollection:
    """What is on record of the world's group."""
    return world.provider.recall_leads(world.pool, world.group, since or world.began)


class RecallContract:
    """The suite."""

    def test_where_nothing_happened_nothing_is_told(self, world: RecallWorld) -> None:
        """But what the times would be of."""
        found = recalled(world)
        assert found.warmed == ()
        assert found.means

    def test_each_warming_is_told_once_and_the_same_each_time(self, world: RecallWorld) -> None:
        """By its machine and the instant."""
        world.warm(3)
        found = recalled(world)
        assert len({(w.node_id, w.at) for w in found.warmed}) == len(found.warmed) == 3
        assert all(w.node_id for w in found.warmed)
        assert recalled(world) == found

    def test_what_is_told_makes_sense(self, world: RecallWorld) -> None:
        """An instant with its zone, some seconds, and stages by the names that all use."""
        world.warm(2)
        types = {o.instance_type for o in world.pool.group(world.group).offerings}
        for w in recalled(world).warmed:
            assert w.at.tzinfo is not None
            assert w.at > world.began
            assert 0 < w.seconds < (w.at - world.began).total_seconds()
            assert w.instance_type in {"", *types}
            assert w.came_from in {Standby.COLD, Standby.STOPPED, Standby.HIBERNATED}
            assert not w.failed
            assert not w.lacked
            assert set(w.stages) <= STAGES
            assert all(seconds >= 0 for seconds in w.stages.values())

    def test_parts_of_the_way_are_told_as_parts(self, world: RecallWorld) -> None:
        """They say which, and took no longer together than what was told of each."""
        world.warm(2)
        for w in recalled(world).warmed:
            if not w.whole:
                assert w.stages
                assert w.seconds <= sum(w.stages.values()) + 1e-6

    def test_only_what_was_over_since_then_is_told(self, world: RecallWorld) -> None:
        """What came before is left where it is."""
        world.warm(2)
        last = max(w.at for w in recalled(world).warmed)
        assert recalled(world, last + _SOON).warmed == ()

    def test_a_refusal_is_a_pool_error(self, world: RecallWorld) -> None:
        """And never an empty record."""
        world.warm(1)
        world.refuse()
        with pytest.raises(PoolError):
            recalled(world)
