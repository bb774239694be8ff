"""All resource types there are, and of which one a claim is."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final

from preprov.contracts import Allocatable
from preprov.control.allocating.gpus import Gpus
from preprov.control.allocating.machines import Machines
from preprov.control.allocating.tasks import Tasks
from preprov.control.allocating.volumes import Volumes
from preprov.control.context import Context
from preprov.model.errors import ConfigError
from preprov.model.pools import Node, Pool
from preprov.model.reservations import Purpose, Reservation

GROUP: Final = "preprov.resource_types"


def resource_types(ctx: Context) -> Mapping[str, Allocatable]:
    """By kind: built in, then those of third parties.

    Raises:
        ConfigError: a third party's cannot be loaded, or takes a name that is taken.
    """
    runs = dict.fromkeys(s.runs for s in ctx.schedulers.values())
    built_in: tuple[Allocatable, ...] = (Machines(ctx), *(Tasks(ctx, k) for k in runs), Gpus(ctx), Volumes(ctx))
    out = {t.kind: t for t in built_in}
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
    """That of a claim: a task is what the scheduler of its node runs; a claim on devices alone is theirs."""
    if claim.purpose is Purpose.TASK:
        scheduler = ctx.schedulers.get(pool.group(node.group).provider) if node is not None else None
        return Tasks(ctx, scheduler.runs if scheduler is not None else "")
    if claim.purpose is Purpose.VOLUME:
        return Volumes(ctx)
    if claim.most.gpu and not (claim.most.cpu or claim.most.memory):
        return Gpus(ctx)
    return Machines(ctx)
