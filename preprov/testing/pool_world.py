"""What a pool provider is tested in, and with: surroundings that a test can act on, and the words of the suite."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

import pytest

from preprov.contracts import Capabilities, LaunchRequest, PoolProvider
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool


class PoolWorld(Protocol):
    """A provider in surroundings a test can act on.

    Attributes:
        provider: under test, with nothing launched yet.
        pool: its first group allows at least four nodes and declares every standby state the provider knows.
        preload: images and datasets that can be had and whose checks succeed; may be empty.
    """

    provider: PoolProvider
    pool: Pool
    preload: Preload

    def again(self) -> PoolProvider:
        """Another instance over the same surroundings, as after a restart of the controller."""
        ...

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Let time pass until `look` is true, and fail if it never is."""
        ...

    def occupy(self, node: Node) -> str:
        """Begin a task on a ready node; returns its claimant once it runs there."""
        ...

    def free(self, node: Node) -> None:
        """Let the node's tasks end; returns when they have."""
        ...

    def spoiled(self) -> Preload | None:
        """From now on, a launch with this preload must fail its check; None if that cannot be arranged."""
        ...

    def exhausted(self) -> Pool | None:
        """The pool, of whose kind of machine there are no more; None if that cannot be arranged."""
        ...

    def tiers(self) -> Pool | None:
        """A pool, nothing launched in it yet, that keeps two standby states of two offerings; None if it cannot be."""
        ...

    def baking(self) -> Pool | None:
        """A pool of whose first group images can be baked; None if that cannot be arranged.

        Asked of a provider that is a `BakesImages` only: others' worlds need not have it.
        """
        ...


class PoolSuite:
    """What the tests of the suite are written with."""

    _tokens = count()

    def ask(self, world: PoolWorld, n: int = 1, *, pool: Pool | None = None, token: str = "") -> LaunchRequest:
        """A request for n nodes of the first group, under a token of its own."""
        pool = pool or world.pool
        group = pool.groups[0]
        token = token or f"token-{next(self._tokens)}"
        return LaunchRequest(pool, group.name, group.offerings[0], n, token, Preload(), {"purpose": "test"})

    def can(self, world: PoolWorld) -> Capabilities:
        """What the first group can do."""
        return world.provider.capabilities(world.pool, world.pool.groups[0].name)

    def needs_names(self, world: PoolWorld) -> None:
        """Skips the test if a node in service cannot be named to the vendor."""
        if not self.can(world).names_serving:
            pytest.skip("this provider ends and keeps no node in service by name")

    def seen(self, world: PoolWorld, provider: PoolProvider | None = None, pool: Pool | None = None) -> dict[str, Node]:
        """What a complete observation shows, by id."""
        pool = pool or world.pool
        found = (provider or world.provider).observe(pool)
        assert found.complete, found.problems
        assert found.pool == pool.name
        assert len({n.node_id for n in found.nodes}) == len(found.nodes), "a node is listed twice"
        return {n.node_id: n for n in found.nodes}

    def wait(self, world: PoolWorld, ids: Sequence[str], phase: Phase, *, pool: Pool | None = None) -> list[Node]:
        """Wait until all these nodes are in a phase."""

        def there() -> bool:
            nodes = self.seen(world, pool=pool)
            return all(i in nodes and nodes[i].phase is phase for i in ids)

        world.until(there, f"{', '.join(ids)} to be {phase}")
        nodes = self.seen(world, pool=pool)
        return [nodes[i] for i in ids]

    def ready(self, world: PoolWorld, n: int = 1) -> list[Node]:
        """Launch n nodes and wait until they are ready."""
        return self.wait(world, world.provider.launch(self.ask(world, n)), Phase.READY)

    def keep(self, world: PoolWorld, state: Standby, ids: list[str]) -> None:
        """Put nodes into a kept state; skips the test if the group has none such."""
        if state not in self.can(world).standby_states:
            pytest.skip(f"this provider keeps no {state} nodes")
        self.needs_names(world)
        put = world.provider.hibernate if state is Standby.HIBERNATED else world.provider.stop
        put(world.pool, ids)
        self.wait(world, tuple(ids), Phase(state.value))
