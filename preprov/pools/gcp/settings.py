"""Settings of a managed instance group: its standby targets, and how to put back what was found."""

from collections.abc import Collection, Mapping
from typing import Final

from preprov.model.adoption import BOOTS_FROM
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.pools.gcp import images
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.machines.giveback import Ends, end_surplus

_TARGETS: Final = {Standby.HIBERNATED: "target_suspended_size", Standby.STOPPED: "target_stopped_size"}


def targets(group: ManagedGroup) -> Mapping[Standby, int]:
    """How many the group is set to keep suspended and stopped, of those states that it may keep."""
    now, may = group.settings(), group.capabilities().standby_states
    return {s: int(getattr(now, field)) for s, field in _TARGETS.items() if s in may}


def set_targets(group: ManagedGroup, targets: Mapping[Standby, int]) -> None:
    """Have the group keep so many suspended and stopped.

    Raises:
        PoolError: it keeps no such nodes, or a number is negative.
    """
    bad = [s for s in targets if s not in _TARGETS or s not in group.capabilities().standby_states]
    if bad or any(n < 0 for n in targets.values()):
        raise PoolError(f"no such targets: {dict(targets)}", where=group.where, hint="hibernated or stopped, 0 or more")
    now = group.settings()
    changed = {_TARGETS[s]: n for s, n in targets.items() if getattr(now, _TARGETS[s]) != n}
    if changed:
        group.patch(changed)


def baseline(group: ManagedGroup) -> Mapping[str, object]:
    """The settings that preprov may touch."""
    now, boots_from = group.settings(), images.boots_from(group)
    return {
        "target_size": int(now.target_size),
        "target_suspended_size": int(now.target_suspended_size),
        "target_stopped_size": int(now.target_stopped_size),
        **({BOOTS_FROM: boots_from} if boots_from else {}),
    }


def restore(
    group: ManagedGroup, ends: Ends, found: Mapping[str, object], held: Collection[str] = ()
) -> tuple[str, ...]:
    """Put the settings back; says what changed.

    More machines than there were are ended by name, ours and idle ones only; fewer are made up for by the group.
    """
    said: list[str] = []
    try:
        said.extend(images.put_back(group, found.get(BOOTS_FROM)))
    finally:  # counts are paid for: they go back even if the image does not
        said.extend(_restore_counts(group, ends, found, held))
    return tuple(said)


def _restore_counts(group: ManagedGroup, ends: Ends, found: Mapping[str, object], held: Collection[str]) -> list[str]:
    said: list[str] = []
    kept = {k: int(str(found[k])) for k in _TARGETS.values() if k in found}
    now = group.settings()
    changed = {k: n for k, n in kept.items() if getattr(now, k) != n}
    if changed:
        group.patch(changed)
        said.extend(f"{k} {getattr(now, k)} -> {n}" for k, n in changed.items())
    if "target_size" in found:
        said.extend(_resize(group, ends, int(now.target_size), int(str(found["target_size"])), held))
    return said


def _resize(group: ManagedGroup, ends: Ends, size: int, wanted: int, held: Collection[str]) -> list[str]:
    if size < wanted:
        group.patch({"target_size": wanted})
        return [f"target_size {size} -> {wanted}"]
    return list(end_surplus(ends, group.pool, group.group.name, size - wanted, held)) if size > wanted else []
