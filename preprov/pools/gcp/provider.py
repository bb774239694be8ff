"""Google Cloud as a pool provider: each group is a zonal managed instance group with its standby policy."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from preprov.contracts import Clock, Finding, Headroom, Image, Notice, Quote, Recollection
from preprov.model.offerings import Offering, Standby
from preprov.model.pools import Pool
from preprov.pools.gcp import doctor, images, limits, notices, permissions, prices, recall, settings
from preprov.pools.gcp.clients import Clients
from preprov.pools.gcp.group import ManagedGroup, Tools
from preprov.pools.gcp.options import gcp_group
from preprov.pools.machines.bench import bench_pool
from preprov.pools.machines.orders import Greeting, no_greeting
from preprov.pools.machines.provider import MachineProvider
from preprov.pools.machines.shortage import Shortages


class GcpProvider(MachineProvider):
    """Nodes of managed instance groups; options of a group as `preprov.pools.gcp.options` reads them.

    The controller writes into an instance's metadata, its agent into guest attributes (`preprov.model.notes`), so the
    template must allow guest attributes. The SDK retries by itself; nothing here does. Compute Engine has nothing that
    ends a raise by itself without choosing whom to end, so no raise is leased.
    """

    name = "gcp"

    def __init__(self, clock: Clock, greeting: Greeting = no_greeting, owner: Callable[[], str] = str) -> None:
        super().__init__(clock, greeting, owner)
        self._tools = Tools(Clients(clock), Shortages(clock), clock)
        self._settled: set[str] = set()

    def _lender(self, pool: Pool, group: str) -> ManagedGroup:
        return ManagedGroup(self._tools, gcp_group(pool, group))

    def targets(self, pool: Pool, group: str) -> Mapping[Standby, int]:
        """As the contract says: the group's target sizes of suspended and of stopped machines."""
        return settings.targets(self._lender(pool, group))

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """As the contract says: the group's target sizes of suspended and of stopped machines."""
        settings.set_targets(self._lender(pool, group), targets)

    def notices(self, pool: Pool) -> tuple[Notice, ...]:
        """As the contract says: preemptions that the zone's operations tell of, and what agents were told."""
        mine = [self._lender(pool, g.name) for g in pool.groups if g.provider == self.name]
        found = [n for one in mine for n in notices.read(one, self._just_seen(one), self._clock.now())]
        return tuple(n for n in found if n.receipt not in self._settled)

    def settle_notices(self, pool: Pool, done: Sequence[Notice]) -> None:
        """As the contract says; remembered by this object, for the zone keeps its operations."""
        self._settled.update(n.receipt for n in done)

    def quotes(self, pool: Pool, group: str, since: datetime) -> tuple[Quote, ...]:
        """As the contract says, from the Cloud Billing catalogue."""
        return prices.quotes(gcp_group(pool, group), since)

    def images(self, pool: Pool, group: str) -> tuple[Image, ...]:
        """As the contract says."""
        return images.images(self._lender(pool, group))

    def make_image(self, pool: Pool, group: str, node_id: str, digest: str) -> None:
        """As the contract says: of the disk it boots from."""
        bench = self._lender(bench_pool(pool, group), group)
        images.make_image(self._lender(pool, group), bench, self._clock, node_id, digest)

    def roll_out(self, pool: Pool, group: str, image_id: str) -> tuple[str, ...]:
        """As the contract says: a new template of the group."""
        return images.roll_out(self._lender(pool, group), image_id)

    def delete_image(self, pool: Pool, group: str, image_id: str) -> None:
        """As the contract says."""
        images.delete_image(self._lender(pool, group), image_id)

    def headroom(self, pool: Pool, group: str, offering: Offering) -> tuple[Headroom, ...]:
        """As the contract says: quotas of the region, addresses of the subnet."""
        return tuple(limits.headroom(self._lender(pool, group), offering))

    def disk_gib(self, pool: Pool, group: str) -> float | None:
        """As the contract says."""
        return limits.disk_gib(self._lender(pool, group))

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """As the contract says: how long machines were waited for, of the zone's operations of the last weeks."""
        return recall.recall(self._lender(pool, group), since)

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        mine = [self._lender(pool, g.name) for g in pool.groups if g.provider == self.name]
        return tuple(f for one in mine for f in (*doctor.examine(one), permissions.examine(one.options)))

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """As the contract says: an autoscaler on the group, a Kubernetes cluster that owns it, another preprov."""
        lender = self._lender(pool, group)
        return (*doctor.other_writers(lender), *self._strangers(lender))

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says."""
        return settings.baseline(self._lender(pool, group))

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says: idle machines of ours are ended by name until the size is as it was."""
        return settings.restore(self._lender(pool, group), self, baseline, held)
