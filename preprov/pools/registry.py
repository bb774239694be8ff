"""Providers by name: the built-in ones, and third parties' through the entry-point group `preprov.pool_providers`."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeAlias

from preprov.contracts import Clock, PoolProvider
from preprov.model.errors import ConfigError
from preprov.pools.machines.orders import Greeting, no_greeting

GROUP: Final = "preprov.pool_providers"
"""An entry point names a callable that takes a `Clock` and returns a `PoolProvider` of the entry point's name."""
Owner: TypeAlias = Callable[[], str]
_ELSEWHERE: Final = "sim"
"""In memory: made by whoever simulates."""


def providers(
    names: Iterable[str],
    home: Path,
    clock: Clock,
    speed: float = 1.0,
    greeting: Greeting = no_greeting,
    owner: Owner = str,
) -> dict[str, PoolProvider]:
    """One provider per name; the in-memory one is left out.

    Args:
        names: as groups have them, and vendors of groups whose counts go through another.
        home: for nodes on this machine. clock: of all of them. speed: of the clock.
        greeting: notes by which new machines of a cloud know who may hand them tasks.
        owner: name of the store, by which one preprov is told from another.

    Raises:
        ConfigError: there is none of that name, or an installed one cannot be loaded.
    """
    wanted, out = {*names} - {_ELSEWHERE}, dict[str, PoolProvider]()
    built_in: Mapping[str, Callable[[], PoolProvider]] = {
        "local": lambda: _local(home, clock, speed),
        "aws": lambda: _aws(clock, greeting, owner),
        "gcp": lambda: _gcp(clock, greeting, owner),
        "azure": lambda: _azure(clock, greeting, owner),
        "terraform": lambda: _terraform(out),
        "slurm": lambda: _slurm(out, clock, speed),
        "kubernetes": lambda: _kubernetes(out, clock),
    }
    for name in sorted(wanted):
        out[name] = built_in[name]() if name in built_in else _installed(name, clock, built_in)
    return out


def _local(home: Path, clock: Clock, speed: float) -> PoolProvider:
    from preprov.pools.local import LocalProvider

    return LocalProvider(home, clock, speed=speed)


def _aws(clock: Clock, greeting: Greeting, owner: Owner) -> PoolProvider:
    from preprov.pools.aws.provider import AwsProvider

    return AwsProvider(clock, greeting=greeting, owner=owner)


def _gcp(clock: Clock, greeting: Greeting, owner: Owner) -> PoolProvider:
    from preprov.pools.gcp.provider import GcpProvider

    return GcpProvider(clock, greeting, owner)


def _azure(clock: Clock, greeting: Greeting, owner: Owner) -> PoolProvider:
    from preprov.pools.azure.provider import AzureProvider

    return AzureProvider(clock, greeting, owner)


def _terraform(others: Mapping[str, PoolProvider]) -> PoolProvider:
    from preprov.pools.terraform import TerraformProvider

    return TerraformProvider(others.__getitem__)


def _slurm(others: Mapping[str, PoolProvider], clock: Clock, speed: float) -> PoolProvider:
    from preprov.pools.slurm.provider import SlurmProvider

    return SlurmProvider(clock, others.__getitem__, speed=speed)


def _kubernetes(others: Mapping[str, PoolProvider], clock: Clock) -> PoolProvider:
    from preprov.pools.kubernetes.provider import KubernetesProvider

    return KubernetesProvider(clock, vendor=others.__getitem__)


def _installed(name: str, clock: Clock, built_in: Iterable[str]) -> PoolProvider:
    for point in entry_points(group=GROUP, name=name):
        try:
            made: PoolProvider = point.load()(clock)
        except Exception as e:
            raise ConfigError(
                f"provider {name!r} cannot be loaded: {e}", where=point.value, hint="uninstall or repair it"
            ) from e
        return made
    known = sorted({*built_in, *(p.name for p in entry_points(group=GROUP))})
    raise ConfigError(f"no provider {name!r}", where="[[pool.group]]", hint=f"use one of {', '.join(known)}")
