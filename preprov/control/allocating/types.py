"""All resource types there are, and of which one a claim is.

A module of this package that has `types(ctx)` brings types; nothing else names them. One whose claims are not on units
of its own says by `type_for(ctx, pool, claim, node)` which claims are on it, and no two say so of the same.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Final

from preprov.contracts import Allocatable
from preprov.control import allocating
from preprov.control.context import Context
from preprov.model.errors import ConfigError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation

GROUP: Final = "preprov.resource_types"


def resource_types(ctx: Context) -> Mapping[str, Allocatable]:
    """By kind: built in, then those of third parties.

    Raises:
        ConfigError: a third party's cannot be loaded, or takes a name that is taken.
    """
    out: dict[str, Allocatable] = {}
    for module in _modules("types"):
        out |= {t.kind: t for t in module.types(ctx)}
    for point in entry_points(group=GROUP):
        try:
            made = point.load()(ctx.ports, ctx.clock)
        except Exception as e:  # whatever a stranger's module does when it is loaded
            raise ConfigError(f"resource type {point.name} cannot be loaded: {e}", where=point.value) from e
        if not isinstance(made, Allocatable) or made.kind in out:
            why = "it lacks a verb of Allocatable" if not isinstance(made, Allocatable) else f"{made.kind} is taken"
            raise ConfigError(f"resource type {point.name} cannot be used: {why}", where=point.value)
        out[made.kind] = made
    return out


def type_of(ctx: Context, pool: Pool, claim: Reservation, node: Node | None = None) -> Allocatable:
    """That of a claim: one on units names its type, any other is told by what it is for and by where it is.

    Raises:
        ConfigError: there is no such type here.
    """
    if claim.units is not None:
        return named(ctx, claim.units.kind)
    found = (module.type_for(ctx, pool, claim, node) for module in _modules("type_for"))
    own: Allocatable = next(t for t in found if t is not None)
    return own


def named(ctx: Context, kind: str) -> Allocatable:
    """The type of that name.

    Raises:
        ConfigError: there is none.
    """
    types = resource_types(ctx)
    if kind not in types:
        raise ConfigError(f"there is no resource type {kind!r}", hint=f"types: {', '.join(sorted(types))}")
    return types[kind]


def _modules(having: str) -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(allocating.__path__):
        module = import_module(f"{allocating.__name__}.{info.name}")
        if module.__name__ != __name__ and hasattr(module, having):
            yield module
