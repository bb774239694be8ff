"""Have a ready machine join the cluster, and leave it: the command runs there as a task of its own."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from preprov.contracts import Scheduler
from preprov.model.errors import ConfigError
from preprov.model.nodes import Node
from preprov.model.resources import ZERO
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.slurm.options import SlurmGroup

_PREFIX: Final = "slurmd-"


class Joiner:
    """Runs the `join` command of a group on its machines; a group without one has images that join by themselves.

    Args:
        schedulers: gives what runs a command on a machine of that vendor; None = nothing does.
    """

    def __init__(self, schedulers: Callable[[str], Scheduler | None]) -> None:
        self._schedulers = schedulers

    def cannot(self, group: SlurmGroup) -> str:
        """Why its machines cannot be told to join; "" if they can, or if they do so by themselves."""
        if not group.join or self._schedulers(group.vendor) is not None:
            return ""
        return f"nothing runs `join` on machines of {group.vendor}: leave it out, and have the image start slurmd"

    def join(self, group: SlurmGroup, name: str, machine: Node, serial: int) -> None:
        """Start it; a second time for the same waking does nothing.

        Raises:
            PoolError: the machine took no command. ConfigError: nothing runs commands on this vendor's machines.
        """
        woken = f"{machine.ready_at:%H%M%S%f}" if machine.ready_at else "0"
        command = tuple(_filled(part, group, name, machine) for part in group.join)
        env = {"SLURM_CONF": str(group.conf)} if group.conf else {}
        spec = TaskSpec("slurmd", command=command, request=ZERO, env=MappingProxyType(env))
        run = f"{_PREFIX}{name}-{serial}-{woken}"
        self._scheduler(group).start(TaskRun(run, "slurmd", group.pool.name, spec, "", State.READY), 0, machine)

    def leave(self, group: SlurmGroup, machine: Node) -> None:
        """End it; success where it never joined."""
        for claimant in machine.running or ():
            if claimant.startswith(_PREFIX):
                self._scheduler(group).cancel(claimant, machine)

    def _scheduler(self, group: SlurmGroup) -> Scheduler:
        found = self._schedulers(group.vendor)
        if found is None:
            raise ConfigError(
                f"nothing runs commands on machines of {group.vendor}",
                where=f"{group.where} options",
                hint="leave `join` out, and have the image start slurmd by itself",
            )
        return found


def _filled(part: str, group: SlurmGroup, name: str, machine: Node) -> str:
    values = {"{node}": name, "{conf}": str(group.conf or ""), "{machine}": machine.node_id}
    for key, value in values.items():
        part = part.replace(key, value)
    return part
