"""Jobs go to nodes that are up before they go to any that are not.

To Slurm a node that powers up is as good as an idle one (only what is powered down comes last), and of those that would
do it takes the smallest block that holds the job: a job is bound to a node that comes in a minute while warm ones idle.
Weight decides before that, the lowest first. So what is not up weighs more than what is; among themselves both keep the
order that slurm.conf gives them. That this was set is seen by the weight itself: nothing else has to be remembered, and
a `scontrol reconfigure`, which brings back those of slurm.conf, is made good by the next look.
"""

from collections.abc import Iterable
from typing import Final

from preprov.pools.slurm.options import SlurmGroup
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.records import SlurmNode

BEHIND: Final = 1_000_000
"""So much more than in slurm.conf, where weights are to be below it."""


def own(weight: int) -> int:
    """Of slurm.conf."""
    return weight % BEHIND


def behind(weight: int) -> str:
    """Of a node that is not up, for `scontrol`."""
    return str(own(weight) + BEHIND)


def weigh(group: SlurmGroup, slurm: SlurmCommands, nodes: Iterable[SlurmNode]) -> list[str]:
    """Set the weights of the group's nodes that are not as they should be; returns their names."""
    due: dict[str, list[str]] = {}
    for n in nodes:
        if n.name in group.names:
            to = behind(n.weight) if n.is_gone or n.is_coming or n.is_going else str(own(n.weight))
            if to != str(n.weight):
                due.setdefault(to, []).append(n.name)
    for weight, names in due.items():
        slurm.update_nodes(names, weight=weight)
    return [name for names in due.values() for name in names]
