"""What everything that adjusts tasks must do: what it declares works, what it does not is refused and changes nothing.

Subclass `AdjusterContract` and give it a fixture `world` that yields an `AdjusterWorld`.
"""

from typing import Protocol

import pytest

from preprov.contracts import ResourceAdjuster
from preprov.model.errors import NotFoundError, RefusedError
from preprov.model.nodes import Node
from preprov.model.resources import Resources

LEASE_S = 600.0
CORES, GIB = 1.0, 0.5
"""What each task of the suite has to begin with."""


class AdjusterWorld(Protocol):
    """An adjuster, and a node that has room for two cores and one GiB more.

    Attributes:
        adjuster: under test. node: where tasks run.
    """

    adjuster: ResourceAdjuster
    node: Node

    def running(self) -> str:
        """A task that runs until it is told to keep what it has done; its claimant."""
        ...

    def pending(self) -> str | None:
        """A task that was handed over and does not run yet; None if there is no such thing."""
        ...

    def has(self, claimant: str) -> Resources | None:
        """What is in force of it, asked of the place itself; None if nothing limits it."""
        ...

    def time_limit_s(self, claimant: str) -> float | None:
        """How long it may run; None = as long as it takes."""
        ...

    def kept(self, claimant: str) -> bool:
        """Wait until it has ended, and say whether it was told to keep what it has done before."""
        ...


class AdjusterContract:
    """The suite."""

    def test_it_is_an_adjuster_and_says_what_stands_in_the_way(self, world: AdjusterWorld) -> None:
        """What it cannot do has a reason that people can read."""
        assert isinstance(world.adjuster, ResourceAdjuster)
        able = world.adjuster.adjustable(world.node)
        assert able.running | able.pending <= {"cpu", "memory", "gpu", "disk_io", "network"}
        assert able.why_not

    @pytest.mark.parametrize("state", ["running", "pending"])
    def test_a_task_gets_more(self, world: AdjusterWorld, state: str) -> None:
        """What is declared for its state is in force afterwards, again and again; else it is refused and as it was."""
        claimant = world.running() if state == "running" else world.pending()
        if claimant is None:
            pytest.skip("nothing waits there")
        able = world.adjuster.adjustable(world.node)
        wanted, before = Resources(cpu=2 * CORES, memory=2 * GIB), world.has(claimant)
        if not (able.running if state == "running" else able.pending):
            with pytest.raises(RefusedError) as refused:
                world.adjuster.resize(claimant, world.node, wanted, LEASE_S)
            assert refused.value.hint
            assert world.has(claimant) == before
            return
        for _ in range(2):
            told = world.adjuster.resize(claimant, world.node, wanted, LEASE_S)
            now = world.has(claimant)
            assert now is not None
            assert (now.cpu, now.memory) == pytest.approx((told.cpu, told.memory), rel=0.02)
            assert (now.cpu, now.memory) == pytest.approx((2 * CORES, 2 * GIB), rel=0.02)

    def test_a_time_limit(self, world: AdjusterWorld) -> None:
        """It is longer afterwards, or that is refused."""
        claimant = world.running()
        if not world.adjuster.adjustable(world.node).time_limit:
            with pytest.raises(RefusedError):
                world.adjuster.extend(claimant, world.node, 7200)
            return
        world.adjuster.extend(claimant, world.node, 7200)
        assert world.time_limit_s(claimant) == 7200

    def test_a_task_keeps_what_it_has_done(self, world: AdjusterWorld) -> None:
        """It is told, and it ends; or that is refused, and it runs on."""
        claimant = world.running()
        if not world.adjuster.adjustable(world.node).checkpoint:
            with pytest.raises(RefusedError):
                world.adjuster.checkpoint(claimant, world.node, "SIGUSR2", 60)
            return
        world.adjuster.checkpoint(claimant, world.node, "SIGUSR2", 60)
        assert world.kept(claimant)
        with pytest.raises(NotFoundError):
            world.adjuster.checkpoint(claimant, world.node, "SIGUSR2", 60)

    def test_what_is_not_there(self, world: AdjusterWorld) -> None:
        """It is not found; to give it back is done already."""
        for ask in (
            lambda: world.adjuster.resize("nobody/t#0", world.node, Resources(cpu=1, memory=1), LEASE_S),
            lambda: world.adjuster.extend("nobody/t#0", world.node, 60),
            lambda: world.adjuster.checkpoint("nobody/t#0", world.node, "SIGUSR2", 1),
        ):
            with pytest.raises((NotFoundError, RefusedError)):
                ask()
        world.adjuster.lift("nobody/t#0", world.node)

    def test_given_back(self, world: AdjusterWorld) -> None:
        """A task whose limits are lifted has no less than before."""
        claimant = world.running()
        before = world.has(claimant)
        if world.adjuster.adjustable(world.node).running:
            world.adjuster.resize(claimant, world.node, Resources(cpu=2 * CORES, memory=2 * GIB), LEASE_S)
        world.adjuster.lift(claimant, world.node)
        after = world.has(claimant)
        assert after is None or (before is not None and before.fits_in(after))
