"""Azure as a pool provider: each group is a flexible scale set, with a standby pool where it names one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from preprov.contracts import Clock, Finding, Headroom, Image, Notice, Quote, Recollection
from preprov.model.errors import PoolError
from preprov.model.offerings import Offering, Standby
from preprov.model.pools import Pool
from preprov.pools.azure import doctor, limits, permissions, prices, recall, settings
from preprov.pools.azure.clients import Clients
from preprov.pools.azure.group import ScaleSet, Tools
from preprov.pools.azure.images import Gallery
from preprov.pools.azure.options import azure_group
from preprov.pools.machines.bench import bench_pool
from preprov.pools.machines.notice import told
from preprov.pools.machines.orders import Greeting, no_greeting
from preprov.pools.machines.provider import MachineProvider
from preprov.pools.machines.shortage import Shortages


class AzureProvider(MachineProvider):
    """Nodes of flexible scale sets; options of a group as `preprov.pools.azure.options` reads them.

    Controller and agent write to each other in a machine's tags (`preprov.model.notes`); the agent does so with the
    machine's own identity. The SDK retries and polls by itself; nothing here does. Azure has nothing that ends a raise
    by itself without choosing whom to end, so no raise is leased.
    """

    name = "azure"

    def __init__(self, clock: Clock, greeting: Greeting = no_greeting, owner: Callable[[], str] = str) -> None:
        super().__init__(clock, greeting, owner)
        self._tools = Tools(Clients(), Shortages(clock), clock, greeting)
        self._settled: set[str] = set()

    def _lender(self, pool: Pool, group: str) -> ScaleSet:
        return ScaleSet(self._tools, azure_group(pool, group))

    def _sets(self, pool: Pool) -> list[ScaleSet]:
        return [self._lender(pool, g.name) for g in pool.groups if g.provider == self.name]

    def targets(self, pool: Pool, group: str) -> Mapping[Standby, int]:
        """As the contract says: how many machines the standby pool keeps ready."""
        standby = self._lender(pool, group).standby
        return standby.targets() if standby is not None else {}

    def set_targets(self, pool: Pool, group: str, targets: Mapping[Standby, int]) -> None:
        """As the contract says: how many machines the standby pool keeps ready."""
        standby = self._lender(pool, group).standby
        if standby is None:
            raise PoolError(f"group {group} has no standby pool", where=pool.name, hint="name it in its options")
        for state, wanted in targets.items():
            standby.set_target(state, wanted)

    def notices(self, pool: Pool) -> tuple[Notice, ...]:
        """As the contract says: scheduled events, which Azure tells the machine alone and its agent notes."""
        found = [n for one in self._sets(pool) for n in told(self._just_seen(one))]
        return tuple(n for n in found if n.receipt not in self._settled)

    def settle_notices(self, pool: Pool, done: Sequence[Notice]) -> None:
        """As the contract says; remembered by this object, for the note goes with its machine."""
        self._settled.update(n.receipt for n in done)

    def quotes(self, pool: Pool, group: str, since: datetime) -> tuple[Quote, ...]:
        """As the contract says, from Azure's list of retail prices."""
        return prices.quotes(self._lender(pool, group), since)

    def images(self, pool: Pool, group: str) -> tuple[Image, ...]:
        """As the contract says."""
        return self._gallery(pool, group).images()

    def make_image(self, pool: Pool, group: str, node_id: str, digest: str) -> None:
        """As the contract says: a version of the gallery's image, from the bench, which is generalised for it."""
        bench = self._lender(bench_pool(pool, group), group)
        self._gallery(pool, group).make(bench, self._clock, node_id, digest)

    def roll_out(self, pool: Pool, group: str, image_id: str) -> tuple[str, ...]:
        """As the contract says: the scale set's model."""
        return self._gallery(pool, group).roll_out(image_id)

    def delete_image(self, pool: Pool, group: str, image_id: str) -> None:
        """As the contract says."""
        self._gallery(pool, group).delete(image_id)

    def _gallery(self, pool: Pool, group: str) -> Gallery:
        return Gallery(self._tools.clients, self._lender(pool, group))

    def headroom(self, pool: Pool, group: str, offering: Offering) -> tuple[Headroom, ...]:
        """As the contract says: quotas of the region, addresses of the subnet."""
        return tuple(limits.headroom(self._tools.clients, self._lender(pool, group), offering))

    def disk_gib(self, pool: Pool, group: str) -> float | None:
        """As the contract says."""
        return limits.disk_gib(self._lender(pool, group))

    def recall_leads(self, pool: Pool, group: str, since: datetime) -> Recollection:
        """As the contract says: of machines that exist and were not changed since they were made."""
        return recall.recall(self._lender(pool, group), since)

    def examine(self, pool: Pool) -> tuple[Finding, ...]:
        """As the contract says."""
        return tuple(
            f
            for one in self._sets(pool)
            for f in (*doctor.examine(one), permissions.examine(self._tools.clients, one.options))
        )

    def other_writers(self, pool: Pool, group: str) -> tuple[str, ...]:
        """As the contract says: clusters and autoscalers by tags of the scale set, Azure Monitor, another preprov."""
        lender = self._lender(pool, group)
        return (*doctor.other_writers(lender), *self._strangers(lender))

    def baseline(self, pool: Pool, group: str) -> Mapping[str, object]:
        """As the contract says."""
        return settings.baseline(self._tools.clients, self._lender(pool, group))

    def restore(
        self, pool: Pool, group: str, baseline: Mapping[str, object], held: Collection[str] = ()
    ) -> tuple[str, ...]:
        """As the contract says: idle machines of ours are ended by name until the size is as it was."""
        return settings.restore(self._tools.clients, self._lender(pool, group), self, baseline, held)
