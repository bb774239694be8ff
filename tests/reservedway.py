"""The whole way of one task by the control code: softly reserved, committed as it starts, released as it ends.

A suite for each scheduler with the provider whose nodes it runs on. It stands here and not among the shipped suites,
which know no control.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from preprov.clocks import WallClock
from preprov.contracts import PoolProvider, Scheduler
from preprov.control.apply import apply_stored
from preprov.control.context import Context
from preprov.control.halting import halt, resume
from preprov.control.passes import pool_pass
from preprov.control.submitting import submit
from preprov.model.plans import Action, ActionKind, CapacityPlan
from preprov.model.pools import Mode, Pool
from preprov.model.reservations import Reservation, ReservationState
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, State, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from preprov.testing.waiting import REAL_S, wait_until


@dataclass(frozen=True)
class Surroundings:
    """A pool without a node; its provider and its scheduler really run what they are given."""

    pool: Pool
    provider: PoolProvider
    scheduler: Scheduler


class Task:
    """A task that runs until it is told to end; files say how far it is."""

    def __init__(self, folder: Path) -> None:
        self._began, self._flag, self._ended = folder / "began", folder / "over", folder / "ended"
        wait = f'while [ ! -e "{self._flag}" ]; do sleep 0.02; done'
        command = ("sh", "-c", f'echo $$ >> "{self._began}"; {wait}; echo x >> "{self._ended}"')
        self.spec = TaskSpec("t", command=command, request=Resources(cpu=1, memory=1), runtime_hint_s=60)

    def begins(self) -> int:
        """How often it began."""
        return len(self._began.read_text().split()) if self._began.exists() else 0

    def runs(self) -> bool:
        """True if its process is there."""
        return self.begins() > 0 and psutil.pid_exists(int(self._began.read_text().split()[-1]))

    def end(self) -> None:
        self._flag.touch()

    def ended(self) -> bool:
        """True if it came to its own end."""
        return self._ended.exists()


def ending(ctx: Context, pool: Pool, node_id: str) -> CapacityPlan:
    """A plan that has nothing in mind but the end of that node."""
    now, group = ctx.clock.now(), pool.groups[0].name
    end = Action("end", ActionKind.TERMINATE, now, group, 1, "for the test", node_ids=(node_id,))
    return CapacityPlan("p-end", pool.name, Mode.FULL, now, now + timedelta(minutes=5), (end,))


class ReservedWay:
    """Give it `surroundings`."""

    def surroundings(self, folder: Path) -> AbstractContextManager[Surroundings]:
        raise NotImplementedError

    @pytest.fixture
    def way(self, tmp_path: Path) -> Iterator[tuple[Context, Pool]]:
        with self.surroundings(tmp_path) as s:
            pool, name = s.pool, s.pool.groups[0].provider
            yield (
                Context(
                    ports=memory_ports(),
                    providers={name: s.provider},
                    schedulers={name: s.scheduler},
                    prices=TablePriceBook.from_pools([pool]),
                    clock=WallClock(),
                    pools={pool.name: pool},
                    n_samples=20,
                ),
                pool,
            )

    def test_its_claim_goes_with_it_and_its_node_is_never_pulled_away(
        self, way: tuple[Context, Pool], tmp_path: Path
    ) -> None:
        """Not by a plan that wants the node gone, nor by a halt that gives back what it may."""
        ctx, pool = way
        task, states = Task(tmp_path), list[ReservationState]()
        pool_pass(ctx, pool)  # the first one takes long: everything is imported in it
        due = ctx.clock.now() + timedelta(seconds=2)
        submit(ctx, (DagSpec("etl", (task.spec,), due=due).in_pool(pool.name),))

        def claims(*, live: bool = True) -> tuple[Reservation, ...]:
            return ctx.ports.ledger.reservations(pool.name, live=live)

        def passes_until(look: Callable[[], bool], what: str) -> None:
            def once() -> bool:
                pool_pass(ctx, pool)
                states.extend(c.state for c in claims(live=False))
                return look()

            wait_until(once, what=what, deadline_s=REAL_S)

        passes_until(task.runs, "the task to start")
        (claim,) = claims()
        assert states[0] is ReservationState.SOFT, "before it is due"
        assert claim.state is ReservationState.COMMITTED
        assert ctx.clock.now() >= due

        def told() -> bool:
            nodes = [n for n in ctx.provider(pool.groups[0].provider).observe(pool).nodes if n.running]
            return [(n.node_id, n.running) for n in nodes] == [(claim.node_id, (claim.claimant,))]

        passes_until(told, "the node to say what it runs")
        (ended,) = apply_stored(ctx, pool, ending(ctx, pool, str(claim.node_id)))[-1:]
        assert ended.result in ("skipped", "failed"), ended
        halt(ctx, "enough", release=True)
        pool_pass(ctx, pool)
        assert task.runs(), "who works there works on"
        assert told()
        assert claims() == (claim,)
        resume(ctx)
        task.end()
        passes_until(lambda: not claims(), "the claim to be released")
        (run,) = ctx.ports.work.runs(pool.name)
        assert run.state is State.SUCCEEDED
        assert (task.ended(), task.begins()) == (True, 1)
        assert list(dict.fromkeys(states)) == [
            ReservationState.SOFT,
            ReservationState.COMMITTED,
            ReservationState.RELEASED,
        ]
