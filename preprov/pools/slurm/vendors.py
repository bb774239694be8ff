"""What the vendor of a group has to be able to do for Slurm, which wants a machine for each name, and that very one."""

from typing import Final

from preprov.contracts import Capabilities, PoolProvider
from preprov.model.offerings import Standby
from preprov.pools.slurm.options import SlurmGroup

_ALWAYS: Final = frozenset({Standby.RUNNING, Standby.COLD})


def unfit(group: SlurmGroup, vendor: PoolProvider) -> str:
    """Why its machines cannot be nodes of Slurm; "" if they can.

    Raises:
        PoolError, ConfigError: the vendor refuses the group.
    """
    can = _capabilities(group, vendor)
    if not can.marks_launches:
        return f"machines of {group.vendor} do not tell for which node of Slurm they were launched"
    if not can.names_serving:
        return f"{group.vendor} ends no machine by name, and Slurm names the nodes that go"
    return ""


def gives_back(group: SlurmGroup, vendor: PoolProvider) -> bool:
    """False if what it was given to keep comes back as whichever of them it likes.

    Raises:
        PoolError, ConfigError: the vendor refuses the group.
    """
    return _capabilities(group, vendor).names_kept


def keeps(group: SlurmGroup, vendor: PoolProvider) -> frozenset[Standby]:
    """States that a machine can be put into and had back from, as the same one.

    Raises:
        PoolError, ConfigError: the vendor refuses the group.
    """
    can = _capabilities(group, vendor)
    return can.standby_states if can.names_kept else can.standby_states & _ALWAYS


def _capabilities(group: SlurmGroup, vendor: PoolProvider) -> Capabilities:
    return vendor.capabilities(group.theirs, group.group.name)
