"""Reservations of Slurm's own: nodes that it keeps for others are no room of a pool.

A node that is up while it is reserved is left alone, and no task is placed there. One that is powered down is not
powered up, nor one whose reservation is about to begin: Slurm starts nothing there that would not be over by then. A
reservation of some cores of its nodes only leaves the rest to everybody, and takes no node away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from preprov.model.time import from_epoch
from preprov.pools.slurm.view import Place
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.records import Reservation

SOON_S: Final = 900.0
"""A reservation that begins within so many seconds is about to."""


def kept_apart(found: Mapping[str, Place], reservations: Sequence[Reservation], now: float) -> dict[str, Place]:
    """The places, each with the reservation that has it now, or else with the next one that is about to.

    Args:
        found: name -> place. reservations: of the cluster. now: epoch seconds, wall.
    """
    out = dict(found)
    for r in sorted(reservations, key=lambda r: r.start, reverse=True):
        if r.start > now + SOON_S or r.end <= now:
            continue
        names = _names(r)
        if _is_partial(r, [found[n] for n in names if n in found], len(names)):
            continue
        until = f"{from_epoch(r.end):%Y-%m-%d %H:%M}Z"
        for name in names:
            if name in out:
                out[name] = replace(out[name], kept_for=f"reservation {r.name} until {until}", taken=r.start <= now)
    return out


def what_is_kept(found: Mapping[str, Place]) -> Iterator[str]:
    """For people: which nodes, for what."""
    by: dict[str, list[str]] = {}
    for place in found.values():
        if place.kept_for:
            by.setdefault(place.kept_for, []).append(place.name)
    for what, names in by.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"Slurm keeps {', '.join(names[:5])}{more} for its {what}"


def _names(r: Reservation) -> tuple[str, ...]:
    try:
        return expand(r.nodes)
    except SlurmError:
        return ()


def _is_partial(r: Reservation, places: Sequence[Place], nodes: int) -> bool:
    """True if it has fewer cores than its nodes; those that are not of the group are taken to be like the others."""
    cores = [p.slurm.cpus / p.slurm.threads for p in places if p.slurm is not None]
    return bool(cores) and 0 < r.cores < sum(cores) / len(cores) * nodes - 0.5
