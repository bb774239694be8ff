"""The part of slurm.conf that lets preprov power nodes up and down, and the programs it names."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprov.model.errors import ConfigError
from preprov.model.offerings import Offering
from preprov.model.pools import Pool
from preprov.pools.slurm.options import SlurmGroup, slurm_groups

_MIB: Final = 1024.0
_JOIN_S: Final = 60.0
PROGRAMS: Final = {"resume": "ResumeProgram", "suspend": "SuspendProgram", "resume-fail": "ResumeFailProgram"}


@dataclass(frozen=True)
class Fragment:
    """What `preprov slurm config` makes.

    Attributes:
        text: for `Include` in slurm.conf. scripts: file name -> its text; they are to be executable.
        notes: what a person has to see to.
    """

    text: str
    scripts: Mapping[str, str]
    notes: tuple[str, ...]


def fragment(
    pools: Iterable[Pool],
    folder: Path,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    suspend_s: float = 300.0,
    suspend_timeout_s: float = 30.0,
    resume_timeout_s: float | None = None,
) -> Fragment:
    """The fragment for all groups of provider "slurm" that these pools have.

    Args:
        folder: where the programs will be. command: how preprov is called. env: what it is to find there.
        suspend_s: idle seconds after which Slurm powers a node down; it is also what a dead preprov costs.
        suspend_timeout_s: seconds after which a node that was suspended may be resumed.
        resume_timeout_s: seconds after which a node has failed to come; None = by the configured lead times.

    Raises:
        ConfigError: no pool has such a group, or two groups name the same node.
    """
    groups = [g for p in pools for g in slurm_groups(p)]
    if not groups:
        raise ConfigError("no pool has a group of provider slurm", where="[[pool.group]]", hint='provider = "slurm"')
    _once(groups)
    lines = [
        "# Written by `preprov slurm config`. In slurm.conf: Include preprov.conf",
        *(f"{key}={folder / _file(name)}" for name, key in PROGRAMS.items()),
        f"SuspendTime={math.ceil(suspend_s)}",
        f"SuspendTimeout={math.ceil(suspend_timeout_s)}",
        f"ResumeTimeout={math.ceil(resume_timeout_s or _resume_timeout(groups))}",
        "ResumeRate=0",
        "SuspendRate=0",
        "PrivateData=cloud",
        *(line for g in groups for line in _nodes(g)),
        *_partitions(groups),
    ]
    notes = (
        "SlurmctldParameters has to contain cloud_reg_addrs,idle_on_node_suspend (a line of its own in slurm.conf)",
        "SelectType=select/cons_tres lets several jobs share a node",
    )
    scripts = {_file(name): _script(name, folder, command, env) for name in PROGRAMS}
    return Fragment("\n".join(lines) + "\n", scripts, notes)


def _file(name: str) -> str:
    return f"preprov-{name}"


def _script(name: str, folder: Path, command: Sequence[str], env: Mapping[str, str]) -> str:
    """Slurmctld calls it with a host list and next to no environment."""
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in sorted(env.items()))
    log = shlex.quote(str(folder / "preprov-power.log"))
    return f'#!/bin/sh\n{exports}exec {shlex.join(command)} slurm {name} "$@" >>{log} 2>&1\n'


def _once(groups: Sequence[SlurmGroup]) -> None:
    seen: dict[tuple[Path | None, str], str] = {}
    for g in groups:
        for name in g.names:
            other = seen.setdefault((g.conf, name), g.where)
            if other != g.where:
                raise ConfigError(f"node {name} is in {other} and in {g.where}", where="options.nodes")


def _resume_timeout(groups: Sequence[SlurmGroup]) -> float:
    """Long enough for all but the slowest: twice the 95th percentile of the slowest way up, and a minute to join."""
    return 2 * max((lead.p95_s for g in groups for lead in g.group.lead.values()), default=300.0) + _JOIN_S


def _nodes(group: SlurmGroup) -> list[str]:
    offering = group.group.offerings[0]
    fields = {
        "NodeName": str(group.group.options["nodes"]),
        "CPUs": str(max(math.floor(offering.allocatable.cpu), 1)),
        "RealMemory": str(max(math.floor(offering.allocatable.memory * _MIB), 1)),
        **_gres(offering),
        **({"Feature": ",".join(group.features)} if group.features else {}),
        "State": "CLOUD",
    }
    more = str(group.group.options.get("node_options", ""))
    return [" ".join([*(f"{k}={v}" for k, v in fields.items()), *([more] if more else [])])]


def _gres(offering: Offering) -> dict[str, str]:
    return {"Gres": f"gpu:{math.floor(offering.capacity.gpu)}"} if offering.capacity.gpu >= 1 else {}


def _partitions(groups: Sequence[SlurmGroup]) -> list[str]:
    nodes: dict[str, list[str]] = {}
    for g in groups:
        nodes.setdefault(g.partition, []).append(str(g.group.options["nodes"]))
    return [f"PartitionName={name} Nodes={','.join(n)} MaxTime=INFINITE State=UP" for name, n in nodes.items()]
