"""Kubernetes as a pool: what has the room of a group is its *way* (`ways`), and what all ways share is here.

The cluster's own autoscaler, or another provider, makes the nodes; preprov launches none behind it, and ends nobody's
work. A node that is drained is cordoned, by server-side apply, so that another's cordon stays another's.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from preprov.contracts import Capabilities, Clock, Finding, LaunchRequest, PoolProvider, Recollection
from preprov.kube.api import Cluster
from preprov.kube.clusters import Clusters
from preprov.model.errors import ConfigError, NodeBusyError, NotFoundError, PoolError
from preprov.model.nodes import Node, PoolObservation
from preprov.model.offerings import Preload, Standby
from preprov.model.pools import Pool
from preprov.pools.kubernetes import manifests, options
from preprov.pools.kubernetes.counted import BufferWay, NodePoolWay
from preprov.pools.kubernetes.draining import Mover
from preprov.pools.kubernetes.examining import examine
from preprov.pools.kubernetes.join import JoinWay
from preprov.pools.kubernetes.options import KubernetesGroup, kubernetes_group, kubernetes_groups
from preprov.pools.kubernetes.placeholder import PlaceholderWay
from preprov.pools.kubernetes.recall import recall
from preprov.pools.kubernetes.rights import ADJUSTS, MOVES, TASKS, Rule, together
from preprov.pools.kubernetes.units import is_cordoned_by_us
from preprov.pools.kubernetes.ways import Opened, Room, Way

Vendor: TypeAlias = Callable[[str], PoolProvider]
"""The provider of a vendor by its name."""
Made: TypeAlias = Callable[[KubernetesGroup, Opened, Clock], Way[Any]]
_WAYS: Final[Mapping[str, Made]] = {
    options.PLACEHOLDER: PlaceholderWay,
    options.BUFFER: BufferWay,
    options.NODE_POOL: NodePoolWay,
}


def opened(group: KubernetesGroup) -> Cluster:
    """The cluster that a group's options name."""
    return Clusters().of(group.place, group.where)


def nobody(name: str) -> PoolProvider:
    """There is no other provider."""
    raise ConfigError(f"no provider {name!r} is at hand", where="vendor")


def way_of(group: KubernetesGroup, cluster: Opened, clock: Clock, vendor: Vendor = nobody) -> Way[Any]:
    """The way of a group."""
    if group.way == options.JOIN:
        return JoinWay(group, cluster, clock, vendor(group.vendor))
    return _WAYS[group.way](group, cluster, clock)


def rules_of(group: KubernetesGroup, way: Way[Any]) -> tuple[Rule, ...]:
    """What the group needs the right to."""
    adjusts = (ADJUSTS,) if group.pool.adjusting is not None else ()
    tasks = (*TASKS, *adjusts) if group.place.tasks else ()
    return together((*way.rules, *((MOVES,) if group.moves else ()), *tasks))


class KubernetesProvider:
    """Room in clusters; options of a group as `options.kubernetes_group` reads them.

    Args:
        clock: of what is told; it has to show the clusters' time.
        vendor: gives the provider whose nodes join one.
        clusters: that others are connected to as well.
    """

    name = options.PROVIDER

    def __init__(self, clock: Clock, vendor: Vendor = nobody, clusters: Clusters | None = None) -> None:
        self._clock = clock
        self._vendor = vendor
        self._mover = Mover()
        self.clusters = clusters or Clusters()

    # ---- what exists

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        """As its way declares: between plans the cluster's autoscaler reacts."""
        return self._way(kubernetes_group(pool, group)).can

    def observe(self, pool: Pool) -> PoolObservation:
        """As the contract says; a group whose cluster does not answer makes it incomplete."""
        nodes: list[Node] = []
        problems: list[str] = []
        now = self._clock.now()
        for group in kubernetes_groups(pool):
            try:
                nodes += [r.shown(now) for r in self._way(group).rooms() if r.exists]
            except PoolError as e:
                problems.append(f"{group.group.name}: {e}")
        return PoolObservation(pool.name, now, tuple(nodes), not problems, tuple(problems))

    # ---- more

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        """As the contract says."""
        return self._way(kubernetes_group(request.pool, request.group)).launch(request)

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        """As the contract says."""
        for group, rooms in self._named(pool, node_ids):
            self._way(group).start(rooms, preload)

    # ---- less

    def hibernate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says: PoolError unless the nodes are another provider's."""
        self._keep(pool, node_ids, Standby.HIBERNATED)

    def stop(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As `hibernate`."""
        self._keep(pool, node_ids, Standby.STOPPED)

    def _keep(self, pool: Pool, node_ids: Sequence[str], state: Standby) -> None:
        named = self._named(pool, node_ids)
        _refuse_busy(pool, named)
        for group, rooms in named:
            self._way(group).keep(rooms, state)

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says: the node is cordoned, and what runs there ends by itself.

        Services move elsewhere, within their budgets, if the group says so.
        """
        now = self._clock.now()
        named = [(g, room) for g, rooms in self._named(pool, node_ids) for room in rooms if room.on]
        for group, room in named:
            if group.moves:
                self._mover.begin(group, room.on, now)
        for group, room in named:
            self._cluster(group).apply_node(manifests.cordoned(room.on))
            if group.moves:
                self._mover.step(group, self._cluster(group), room.on, now)

    def _move(self, group: KubernetesGroup) -> list[str]:
        """Go on with what is drained."""
        if not group.moves:
            return []
        done: list[str] = []
        mine = self._had(group)
        for node in self._nodes(group):
            name = node["metadata"]["name"]
            if name in mine and is_cordoned_by_us(node):
                done += self._mover.step(group, self._cluster(group), name, self._clock.now())
            else:
                self._mover.forget(group, name)
        return done

    def terminate(self, pool: Pool, node_ids: Sequence[str]) -> None:
        """As the contract says."""
        named = self._named(pool, node_ids, absent_is_fine=True)
        _refuse_busy(pool, named)
        for group, rooms in named:
            self._way(group).end(rooms)
            if on := {r.on for r in rooms if r.on}:
                self._uncordon(group, on)

    def _had(self, group: KubernetesGroup) -> set[str]:
        """Nodes that are of a room, or are to go with one that is over."""
        return {r.on for r in self._way(group).rooms() if r.on}

    def _uncordon(self, group: KubernetesGroup, among: Collection[str] | None = None) -> list[str]:
        """Take our cordon off these nodes (None = all) as far as they are of no room; another's stays."""
        ours = {n["metadata"]["name"] for n in self._nodes(group) if is_cordoned_by_us(n)}
        ours = ours if among is None else ours & set(among)
        done = sorted(ours - self._had(group)) if ours else []
        for name in done:
            self._cluster(group).apply_node(manifests.uncordoned(name))
        return done

    def _nodes(self, group: KubernetesGroup) -> list[Any]:
        return self._cluster(group).nodes(group.selector)

    # ---- leases and upkeep

    def lease(self, pool: Pool, group: str, until: datetime) -> None:
        """As the contract says; PoolError where nothing in the cluster ends a raise."""
        self._way(kubernetes_group(pool, group)).lease(until)

    def tend(self, pool: Pool, held: Collection[str] = ()) -> tuple[str, ...]:
        """As the contract says: each way's upkeep, and cordons of ours whose room is gone are taken off."""
        done: list[str] = []
        for group in kubernetes_groups(pool):
            done += self._way(group).tend(held)
            done += self._move(group)
            for name in self._uncordon(group):
                done.append(f"{name} takes pods again: no unit is on it any more")
        return tuple(done)

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """As the contract says: of nodes that exist; of those that join, what their own provider has on record."""
        ours = kubernetes_group(pool, group)
        way = self._way(ours)
        if isinstance(way, JoinWay):
            return way.recall(since)
        return recall(ours, self._cluster(ours), since, self._had(ours))

    # ---- before anything is done, and after

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        return tuple(
            f
            for g in kubernetes_groups(pool)
            for f in examine(g, self._way(g), rules_of(g, self._way(g)), self._cluster)
        )

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """None: units and orders are ours alone, and the nodes are the autoscaler's."""
        kubernetes_group(pool, group)
        return ()

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says."""
        return self._way(kubernetes_group(pool, group)).baseline()

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says: what no work is promised to is given back."""
        ours = kubernetes_group(pool, group)
        said = self._way(ours).restore(baseline, held)
        return (*said, *(f"{n} takes pods again" for n in self._uncordon(ours)))

    # ---- inside

    def _way(self, group: KubernetesGroup) -> Way[Any]:
        return way_of(group, lambda: self._cluster(group), self._clock, self._vendor)

    def _cluster(self, group: KubernetesGroup) -> Cluster:
        return self.clusters.of(group.place, group.where)

    def _named(
        self, pool: Pool, node_ids: Sequence[str], *, absent_is_fine: bool = False
    ) -> list[tuple[KubernetesGroup, list[Any]]]:
        """The rooms of these names, by group.

        Raises:
            NotFoundError: naming those that do not exist.
        """
        wanted = dict.fromkeys(node_ids)
        found = [
            (g, [r for r in self._way(g).rooms() if r.exists and r.name in wanted]) for g in kubernetes_groups(pool)
        ]
        missing = wanted.keys() - {r.name for _, rooms in found for r in rooms}
        if missing and not absent_is_fine:
            names = ", ".join(i for i in wanted if i in missing)
            raise NotFoundError(f"no node {names}", where=pool.name, hint="observe again")
        return [(g, rooms) for g, rooms in found if rooms]


def _refuse_busy(pool: Pool, named: Iterable[tuple[KubernetesGroup, Sequence[Room]]]) -> None:
    busy = [r for _, rooms in named for r in rooms if r.work]
    if busy:
        text = "; ".join(f"{r.name} gave way to {', '.join(r.work[:3])}" for r in busy)
        raise NodeBusyError(text, where=pool.name, hint="it can be ended when that has ended")
