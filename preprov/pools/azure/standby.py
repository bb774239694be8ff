"""The standby pool that serves a scale set: so many machines, all in one state, handed over as the size is raised."""

from collections.abc import Mapping
from typing import Final

from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.pools.azure.clients import Clients, Json, as_json, pages
from preprov.pools.azure.errors import calling
from preprov.pools.azure.options import AzureGroup

STATES: Final[Mapping[str, Standby]] = {
    "Deallocated": Standby.STOPPED,
    "Hibernated": Standby.HIBERNATED,
    "Running": Standby.HIBERNATED,
}
"""State of the pool -> tier it is planned as. One that keeps them running is the fastest tier below RUNNING."""


class StandbyPool:
    """Its settings. Who is in it Azure decides: its machines join the scale set when the size is raised."""

    def __init__(self, clients: Clients, options: AzureGroup) -> None:
        self._clients = clients
        self._options = options

    def settings(self) -> Json:
        """The standby pool itself.

        Raises:
            PoolError: it cannot be read.
        """
        o = self._options
        with calling(o.where):
            pools = self._clients.standby(o.place).standby_virtual_machine_pools
            properties: Json = as_json(pools.get(o.place.resource_group, o.standby_pool))["properties"]
        return properties

    def members(self) -> list[str]:
        """Names of its machines.

        Raises:
            PoolError: they cannot be listed.
        """
        o = self._options
        machines = self._clients.standby(o.place).standby_virtual_machines
        listed = machines.list_by_standby_virtual_machine_pool_resource
        found = pages(o.where, listed(o.place.resource_group, o.standby_pool))
        return [str(m["properties"]["virtualMachineResourceId"]).rsplit("/", 1)[-1] for m in found]

    def kept(self) -> Standby:
        """The tier its machines are planned as.

        Raises:
            PoolError: it cannot be read.
        """
        return STATES[str(self.settings()["virtualMachineState"])]

    def lower(self, by: int) -> None:
        """Have it keep so many fewer than it has; which of them it ends is its own choice.

        Raises:
            PoolError: it failed.
        """
        wanted, now = max(len(self.members()) - by, 0), self.settings()["elasticityProfile"]
        if wanted < int(now.get("minReadyCapacity", 0)) or wanted < int(now["maxReadyCapacity"]):
            self.put({"maxReadyCapacity": wanted, "minReadyCapacity": wanted})

    def counts(self) -> dict[str, int]:
        """How many of its machines are in each state, in Azure's words.

        Raises:
            PoolError: it cannot be read.
        """
        o = self._options
        with calling(o.where):
            views = self._clients.standby(o.place).standby_virtual_machine_pool_runtime_views
            view = as_json(views.get(o.place.resource_group, o.standby_pool, "latest"))
        summary = view["properties"].get("instanceCountSummary") or ()
        counts = [c for zone in summary for c in zone.get("instanceCountsByState") or ()]
        return {s: sum(c["count"] for c in counts if c["state"] == s) for s in {c["state"] for c in counts}}

    def targets(self) -> Mapping[Standby, int]:
        """How many it is set to keep, by the tier they are planned as.

        Raises:
            PoolError: it cannot be read.
        """
        now = self.settings()
        return {STATES[str(now["virtualMachineState"])]: int(now["elasticityProfile"]["maxReadyCapacity"])}

    def set_target(self, state: Standby, wanted: int) -> bool:
        """Have it keep so many; True if that was a change.

        The vendor keeps maxReadyCapacity less the size of the scale set, so the floor is set with it.

        Raises:
            PoolError: it keeps another state, or it failed.
        """
        now = self.settings()
        if STATES[now["virtualMachineState"]] is not state:
            raise PoolError(
                f"standby pool {self._options.standby_pool} keeps {now['virtualMachineState']} machines",
                where=self._options.where,
                hint=f"name {STATES[now['virtualMachineState']]}",
            )
        profile = {"maxReadyCapacity": wanted, "minReadyCapacity": wanted}
        return self.put(profile)

    def put(self, profile: Mapping[str, int]) -> bool:
        """Change how many it keeps; True if that was a change.

        Raises:
            PoolError: it failed.
        """
        o, old = self._options, self.settings()["elasticityProfile"]
        if all(old.get(k, 0) == v for k, v in profile.items()):
            return False
        body = {"properties": {"elasticityProfile": {**old, **profile}}}
        with calling(o.where):
            pools = self._clients.standby(o.place).standby_virtual_machine_pools
            pools.update(o.place.resource_group, o.standby_pool, body)
        return True
