"""The machines behind the nodes of a group, by the provider that makes them: had, woken, put away and ended."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from preprov.contracts import LaunchRequest, PoolProvider, Scheduler
from preprov.model.errors import ConfigError, NodeBusyError, PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.notes import SLURM_NODE
from preprov.model.offerings import Standby
from preprov.pools.slurm import view
from preprov.pools.slurm.boots import Boot, Boots
from preprov.pools.slurm.joining import Joiner
from preprov.pools.slurm.options import SlurmGroup, Vendor
from preprov.pools.slurm.vendors import gives_back, unfit
from preprov.pools.slurm.view import Place

ASLEEP: Final = (Phase.STOPPED, Phase.HIBERNATED)
_LEAVE_S: Final = 30.0
_LOOK_S: Final = 0.5


class Machines:
    """What the three programs do to machines.

    Args:
        vendor: gives the provider that makes them.
        schedulers: gives what runs a command on a machine of that vendor; None = nothing does.
        boots: remembers which machine was made for which boot of a node.
    """

    def __init__(self, vendor: Vendor, schedulers: Callable[[str], Scheduler | None], boots: Boots) -> None:
        self._vendor = vendor
        self._boots = boots
        self.joiner = Joiner(schedulers)

    def unfit(self, group: SlurmGroup) -> str:
        """Why none of its vendor will do, however many it has; "" if they will."""
        try:
            return unfit(group, self._of(group)) or self.joiner.cannot(group)
        except (PoolError, ConfigError) as e:
            return e.what

    # ---- what there is

    def observe(self, group: SlurmGroup) -> PoolObservation:
        """As its vendor sees them."""
        return self._of(group).observe(group.theirs)

    def by_node(self, group: SlurmGroup) -> Mapping[str, Node]:
        """Node of Slurm -> its machine, the newest."""
        newest = sorted(self.observe(group).nodes, key=lambda m: m.created_at)
        return {m.tags[SLURM_NODE]: m for m in newest if SLURM_NODE in m.tags}

    # ---- more

    def provide(self, group: SlurmGroup, place: Place) -> str:
        """One for a node: there already, woken, or launched. Returns why not, "" if there is one."""
        vendor = self._of(group)
        with self._boots.of(group.where, place.name) as boot:
            boot.refused = ""
            try:
                # What was there when we looked may have been suspended while we waited for our turn.
                machine = place.machine and self.by_node(group).get(place.name)
                if machine is not None and machine.phase in (Phase.FAILED, Phase.LOST):
                    vendor.terminate(group.theirs, [machine.node_id])
                    boot.ended()
                    machine = None
                if machine is None:
                    return (
                        "" if self._launch(group, place, boot.token) or self._anew(group, place, boot) else "none came"
                    )
                if machine.phase in ASLEEP:
                    vendor.start(group.theirs, [machine.node_id], group.pool.preload)
            except PoolError as e:
                return f"{e.kind}: {e.what}"
        return ""

    def _anew(self, group: SlurmGroup, place: Place, boot: Boot) -> bool:
        """The machine of the last token has ended without Slurm knowing: another token."""
        boot.ended()
        return self._launch(group, place, boot.token)

    def _launch(self, group: SlurmGroup, place: Place, token: str) -> bool:
        offering = view.offering_of(group, place.slurm) if place.slurm else group.group.offerings[0]
        request = LaunchRequest(
            pool=group.theirs,
            group=group.group.name,
            offering=offering,
            count=1,
            token=token,
            preload=group.pool.preload,
            tags={**place.marks.tags, SLURM_NODE: place.name},
        )
        return bool(self._of(group).launch(request))

    # ---- less

    def rests_as(self, group: SlurmGroup, asked: Standby | None = None) -> Standby:
        """What becomes of one that goes; it ends where its vendor would wake another in its place.

        Args:
            asked: as whoever powers the node down wants it; None = as configured.
        """
        to = asked or group.suspend_to
        return to if to is Standby.COLD or gives_back(group, self._of(group)) else Standby.COLD

    def end(self, group: SlurmGroup, machine: Node, to: Standby = Standby.COLD) -> str:
        """Have it leave the cluster, then give it up; a task that is just ending is waited for. Returns what was done.

        Raises:
            PoolError: it could not be; NodeBusyError if something runs there.
        """
        vendor = self._of(group)
        self.joiner.leave(group, machine)
        verbs = {Standby.COLD: vendor.terminate, Standby.STOPPED: vendor.stop, Standby.HIBERNATED: vendor.hibernate}
        until = time.monotonic() + _LEAVE_S
        while True:
            try:
                verbs[to](group.theirs, [machine.node_id])
            except NodeBusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)
                continue
            return f"{machine.node_id} {'ended' if to is Standby.COLD else to}"

    def _of(self, group: SlurmGroup) -> PoolProvider:
        return self._vendor(group.vendor)
