"""The part of the suite about tiers: plans over several of them, what the vendor keeps by itself, scale-down."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Final, TypeAlias

import pytest

from preprov.contracts import LaunchRequest, SetsTargets
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.plans import Action, ActionKind, CapacityPlan, Target, stable_id
from preprov.model.pools import Group, Mode, Pool
from preprov.testing.pool_world import PoolSuite, PoolWorld

_KEEPS: Final = {Standby.HIBERNATED: ActionKind.HIBERNATE, Standby.STOPPED: ActionKind.STOP}
_T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LOOKS: Final = 30
"""As many as a vendor that ends nodes by itself would have needed to do so."""

Counts: TypeAlias = Counter[tuple[str, str, Standby]]
"""(group, offering, standby state) -> nodes."""


@dataclass(frozen=True)
class Tier:
    """A standby state of an offering of a group."""

    group: Group
    offering: Offering
    state: Standby

    @property
    def running(self) -> tuple[str, str, Standby]:
        """Where its nodes count when they run."""
        return (self.group.name, self.offering.key, Standby.RUNNING)

    @property
    def kept(self) -> tuple[str, str, Standby]:
        """Where its nodes count when they are kept."""
        return (self.group.name, self.offering.key, self.state)


@dataclass(frozen=True)
class Move:
    """So many nodes of a tier are launched, kept or started."""

    kind: ActionKind
    tier: Tier
    count: int


class TierContract(PoolSuite):
    """Tests of it."""

    # ------------------------------------------------------------------ a plan, carried out

    def test_a_plan_of_two_tiers_and_two_offerings_is_what_is_then_observed(self, world: PoolWorld) -> None:
        """What plans promise per group, offering and standby state is what exists once they are carried out."""
        pool = world.tiers()
        if pool is None:
            pytest.skip("this provider has no two tiers of two offerings")
        one, two = self._two(world, pool)
        there: Counts = Counter()
        launch, start = ActionKind.LAUNCH, ActionKind.START
        self._carry_out(world, pool, there, [Move(launch, one, 2), Move(launch, two, 2)])
        self._carry_out(world, pool, there, [Move(_KEEPS[one.state], one, 1), Move(_KEEPS[two.state], two, 1)])
        self._carry_out(world, pool, there, [Move(start, two, 1), Move(launch, one, 1)])

    def _two(self, world: PoolWorld, pool: Pool) -> tuple[Tier, Tier]:
        """Two tiers that differ in offering and state."""
        can = {g.name: world.provider.capabilities(pool, g.name) for g in pool.groups}
        tiers = [
            Tier(g, o, s) for g in pool.groups for o in g.offerings for s in can[g.name].standby_states & {*_KEEPS}
        ]
        tiers.sort(key=lambda t: (t.group.name, t.offering.key, t.state))
        for a, b in product(tiers, tiers):
            both = can[a.group.name].mixes_states and can[a.group.name].chooses_offering
            apart = a.group.name != b.group.name or both
            if apart and a.state is not b.state and a.offering.instance_type != b.offering.instance_type:
                return a, b
        raise AssertionError("tiers() gave a pool without two tiers of two offerings")

    def _carry_out(self, world: PoolWorld, pool: Pool, there: Counts, moves: Sequence[Move]) -> None:
        """Make a plan of these moves, do what it says, and wait until exactly its targets are observed."""
        nodes = list(self.seen(world, pool=pool).values())
        actions: list[Action] = []
        for move in moves:
            actions.append(self._action(move, nodes, len(actions) + sum(there.values())))
            self._count(world, pool, there, move)
        plan = CapacityPlan(
            plan_id=stable_id(*(a.action_id for a in actions)),
            pool=pool.name,
            mode=Mode.FULL,
            issued_at=_T0,
            valid_until=_T0 + timedelta(days=1),
            actions=tuple(actions),
            targets=tuple(Target(_T0, g, s, n) for (g, s), n in by_group(there).items()),
        )
        for action in plan.due(_T0):
            self._do(world, pool, action)
        world.until(lambda: self._settled(world, pool, there), f"{dict(+there)} to be observed")
        seen = counted(self.seen(world, pool=pool).values())
        assert by_group(seen) == {(t.group, t.standby_state): t.count for t in plan.targets}

    def _settled(self, world: PoolWorld, pool: Pool, wanted: Counts) -> bool:
        nodes = self.seen(world, pool=pool).values()
        resting = all(n.phase in (Phase.READY, Phase.HIBERNATED, Phase.STOPPED) for n in nodes)
        return resting and counted(nodes) == +wanted

    def _action(self, move: Move, nodes: Sequence[Node], serial: int) -> Action:
        tier = move.tier
        place = tier.running if move.kind in _KEEPS.values() else tier.kept
        ids = [n.node_id for n in nodes if (n.group, n.offering.key, n.standby) == place]
        return Action(
            action_id=f"{tier.group.name}-{move.kind}-{serial}",
            kind=move.kind,
            at=_T0,
            group=tier.group.name,
            count=move.count,
            reason="the suite",
            offering=tier.offering.key,
            standby_state=Standby.RUNNING if move.kind.raises else tier.state,
            node_ids=() if move.kind is ActionKind.LAUNCH else tuple(ids[: move.count]),
        )

    def _count(self, world: PoolWorld, pool: Pool, there: Counts, move: Move) -> None:
        """What the move comes to. A node that cannot be named stays in service, and another one is made to be kept."""
        named = world.provider.capabilities(pool, move.tier.group.name).names_serving
        raises = move.kind.raises
        there[move.tier.running] += move.count if raises else -move.count if named else 0
        there[move.tier.kept] += -move.count if move.kind is ActionKind.START else 0 if raises else move.count

    def _do(self, world: PoolWorld, pool: Pool, action: Action) -> None:
        provider, group = world.provider, pool.group(action.group)
        if action.kind is ActionKind.LAUNCH:
            offering = next(o for o in group.offerings if o.key == action.offering)
            provider.launch(LaunchRequest(pool, group.name, offering, action.count, action.action_id, Preload()))
        elif action.kind is ActionKind.START:
            provider.start(pool, action.node_ids, Preload())
        elif provider.capabilities(pool, group.name).names_serving:
            put = provider.stop if action.kind is ActionKind.STOP else provider.hibernate
            put(pool, action.node_ids)
        else:
            assert isinstance(provider, SetsTargets)
            provider.set_targets(pool, group.name, {action.standby_state: action.count})

    # ------------------------------------------------------------------ what the vendor keeps by itself

    def test_what_the_vendor_keeps_takes_no_task_on_its_way_and_lowers_nothing_in_service(
        self, world: PoolWorld
    ) -> None:
        """From its first boot until somebody starts it such a node is never ready; fewer of them end no other."""
        if not isinstance(world.provider, SetsTargets) or not self.can(world).sets_targets:
            pytest.skip("this provider's vendor keeps no nodes by itself")
        group = world.pool.groups[0].name
        state = min(self.can(world).standby_states & {*_KEEPS})
        (serving,) = self.ready(world)
        claimant = world.occupy(serving)
        for wanted in (2, 1):
            world.provider.set_targets(world.pool, group, {state: wanted})
            assert world.provider.targets(world.pool, group)[state] == wanted
            world.until(partial(self._is_kept, world, serving, state, wanted), f"{wanted} to be kept")
        for _ in range(_LOOKS):
            self._pass_time(world)
            assert self._kept(world, serving, state) == 1
        assert self.seen(world)[serving.node_id].running == (claimant,)

    def _is_kept(self, world: PoolWorld, serving: Node, state: Standby, wanted: int) -> bool:
        return self._kept(world, serving, state) == wanted

    def _kept(self, world: PoolWorld, serving: Node, state: Standby) -> int:
        """How many are kept; none of those that are, or will be, takes a task."""
        others = [n for n in self.seen(world).values() if n.node_id != serving.node_id]
        for n in others:
            assert n.phase is not Phase.READY, "it was never handed over"
            with pytest.raises(PoolError):
                world.occupy(n)
        return sum(n.standby is state for n in others)

    # ------------------------------------------------------------------ scale-down

    def test_scale_down_ends_the_nodes_it_names_and_no_other(self, world: PoolWorld) -> None:
        """No count is lowered for the vendor to choose by: what was not named is there for good, and works on."""
        self.needs_names(world)
        idle, busy, other = self.ready(world, 3)
        claimant = world.occupy(busy)
        world.provider.terminate(world.pool, [idle.node_id])
        world.until(lambda: idle.node_id not in self.seen(world), "the named node to be gone")
        for _ in range(_LOOKS):
            self._pass_time(world)
        nodes = self.seen(world)
        assert set(nodes) == {busy.node_id, other.node_id}
        assert nodes[busy.node_id].running == (claimant,)
        assert {n.phase for n in nodes.values()} == {Phase.READY}

    def _pass_time(self, world: PoolWorld) -> None:
        """One step of the world's time, in which the vendor does what it does."""
        looks = iter((False, True))
        world.until(lambda: next(looks), "time to pass")


def counted(nodes: Iterable[Node]) -> Counts:
    """Nodes by group, offering and standby state."""
    return Counter((n.group, n.offering.key, n.standby) for n in nodes)


def by_group(counts: Counts) -> dict[tuple[str, Standby], int]:
    """Counts of groups, whatever the offering; what is 0 is left out."""
    out: Counter[tuple[str, Standby]] = Counter()
    for (group, _, state), n in counts.items():
        out[group, state] += n
    return {k: n for k, n in out.items() if n}
