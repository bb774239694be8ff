"""What a group of provider "slurm" says in its `options`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from preprov.contracts import PoolProvider
from preprov.model.errors import ConfigError
from preprov.model.offerings import Standby
from preprov.model.pools import Group, Pool
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand

Vendor: TypeAlias = Callable[[str], PoolProvider]
"""The provider of a vendor by its name."""

_OURS: Final = frozenset(
    {"vendor", "nodes", "conf", "partition", "features", "suspend_to", "join", "retry_s", "node_options", "weigh"}
)


@dataclass(frozen=True)
class SlurmGroup:
    """One group.

    Attributes:
        pool, group: as configured. names: Slurm's names of its nodes, in order.
        vendor: name of the provider that makes the machines. theirs: the pool as that provider is to see it.
        conf: slurm.conf; None = as Slurm finds it. partition: of the generated slurm.conf. features: of its nodes.
        suspend_to: what becomes of a machine that Slurm suspends by itself.
        join: command that is run on a ready machine so that it joins the cluster; () = its image does so by itself.
        retry_s: after a refusal of the vendor, Slurm may try a node again so many seconds later.
        weigh: the weights of its nodes are set so that what is up is used first.
    """

    pool: Pool
    group: Group
    names: tuple[str, ...]
    vendor: str
    theirs: Pool
    conf: Path | None
    partition: str
    features: tuple[str, ...]
    suspend_to: Standby
    join: tuple[str, ...]
    retry_s: float
    weigh: bool

    @property
    def where(self) -> str:
        """For errors."""
        return f"{self.pool.name}/{self.group.name}"


def is_slurm(group: Group) -> bool:
    """True if Slurm owns its counts."""
    return group.provider == "slurm"


def slurm_groups(pool: Pool) -> tuple[SlurmGroup, ...]:
    """All groups of the pool that are Slurm's."""
    return tuple(slurm_group(pool, g.name) for g in pool.groups if is_slurm(g))


def slurm_group(pool: Pool, name: str) -> SlurmGroup:
    """One group.

    Raises:
        ConfigError: an option is missing or makes no sense.
    """
    group = pool.group(name)
    options, where = dict(group.options), f"{pool.name}/{name}"
    vendor = _required(options, "vendor", where, 'the provider that makes the machines, such as "aws"')
    if vendor == "slurm":
        raise ConfigError('vendor cannot be "slurm"', where=where, hint="name the provider that makes the machines")
    try:
        names = expand(_required(options, "nodes", where, 'their names in Slurm, such as "cn[1-16]"'))
    except SlurmError as e:
        raise ConfigError(e.said, where=where, hint='such as nodes = "cn[1-16]"') from None
    conf = options.get("conf")
    to = str(options.get("suspend_to", Standby.COLD))
    if to not in set(Standby) - {Standby.RUNNING}:
        raise ConfigError(f"suspend_to = {to!r}", where=where, hint="cold, stopped or hibernated")
    left = MappingProxyType({k: v for k, v in options.items() if k not in _OURS})
    theirs = replace(group, provider=vendor, options=left)
    return SlurmGroup(
        pool=pool,
        group=group,
        names=names,
        vendor=vendor,
        theirs=replace(pool, groups=(theirs,)),
        conf=Path(str(conf)) if conf else None,
        partition=str(options.get("partition", pool.name)),
        features=_strings(options.get("features", ()), "features", where),
        suspend_to=Standby(to),
        join=_strings(options.get("join", ()), "join", where),
        retry_s=_seconds(options.get("retry_s", 60.0), where),
        weigh=_switch(options.get("weigh", True), "weigh", where),
    )


def _required(options: Mapping[str, Any], key: str, where: str, what: str) -> str:
    value = options.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"a group of provider slurm needs {key!r}", where=f"{where} options", hint=what)
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigError("retry_s is a number of seconds", where=where)
    return float(value)


def _switch(value: object, key: str, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is true or false", where=where)
    return value


def _strings(value: object, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{key} is a list of strings", where=where)
    return tuple(str(v) for v in value)
