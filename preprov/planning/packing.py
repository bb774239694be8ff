"""Vector bin packing: how many nodes of a type a wave of unlike tasks needs, and how much of a node such a mix can use.

Tasks of a kind are placed at once, kinds in order of the largest share of a node that any resource of theirs takes
(first fit decreasing), so that ten thousand tasks cost as much as their kinds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import Offering
from preprov.model.resources import KINDS, Resources

Array: TypeAlias = NDArray[Any]

_DUST: Final = 1e-6
_BINS: Final = 48
"""A mix is packed into about so many nodes, so that the last one, half full, tells little."""
_MOST_KINDS: Final = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """Tasks that are alike: what one instance asks for, and the labels its node must have.

    Attributes:
        count: how many, or how much of the mix they are.
    """

    request: Resources
    count: float = 1.0
    affinity: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Mix:
    """Which sizes of tasks run side by side, and how many of each per other.

    Attributes:
        sizes: (cpu, memory, gpu, disk_io, network) of one instance. counts: instances at a time.
    """

    sizes: tuple[tuple[float, ...], ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> Resources:
        """What it asks for together."""
        return Resources.of((np.array(self.sizes) * np.array(self.counts)[:, None]).sum(axis=0).tolist())

    @classmethod
    def of(cls, kinds: Iterable[Kind]) -> "Mix | None":
        """Like sizes together, a few dozen at most; None if there are none."""
        found: dict[tuple[float, ...], float] = {}
        for k in kinds:
            if k.count > 0 and not k.request.is_zero:
                size = k.request.as_tuple()
                found[size] = found.get(size, 0.0) + k.count
        if not found:
            return None
        most = sorted(found.items(), key=lambda sc: (-sc[1] * max(sc[0]), sc[0]))[:_MOST_KINDS]
        return cls(tuple(s for s, _ in most), tuple(c for _, c in most))


def coarser(amounts: Array) -> Array:
    """Amounts up to the next of forty steps a decade, whole numbers as they are: sizes that differ by less are one."""
    whole = amounts == np.rint(amounts)
    with np.errstate(divide="ignore"):
        steps = np.ceil(np.log10(np.maximum(amounts, 1e-12)) * 40 - 1e-9)
    out: Array = np.where(whole, amounts, np.round(10 ** (steps / 40), 4))
    return out


def nodes_for_wave(wave: Sequence[Kind], room: Resources, binding: Sequence[str]) -> int:
    """Nodes of a type that hold all of a wave at once; what does not fit on an empty one is left out."""
    mix = Mix(tuple(k.request.as_tuple() for k in wave), tuple(math.ceil(k.count - _DUST) for k in wave))
    used, _ = _packed(mix, room.as_tuple(), tuple(binding))
    return used


def usable_of(mix: Mix, offering: Offering, binding: Sequence[str]) -> tuple[float, ...]:
    """Allocatable amounts that such a mix can use on a node, in the order of KINDS: what packing leaves is not counted.

    A mix none of which fits is ignored: it is for `misfit` to say so.
    """
    return _usable(mix, offering.allocatable.as_tuple(), tuple(binding))


@lru_cache(maxsize=512)
def _usable(mix: Mix, room: tuple[float, ...], binding: tuple[str, ...]) -> tuple[float, ...]:
    total, fits = _totals(mix, room, binding)
    if not fits.any():
        return room
    index = [KINDS.index(k) for k in binding]
    shares = np.array([total[k] / room[k] if room[k] > 0 else 0.0 for k in index])
    scale = max(_BINS / max(float(shares.max()), 1e-12), 1e-9)
    many = Mix(mix.sizes, tuple(max(math.ceil(c * scale), 1) for c in mix.counts))
    nodes, placed = _packed(many, room, binding)
    out = list(room)
    if nodes < 2:
        return room
    # Only what limits loses its remainder: the others may serve other tasks.
    limits = [k for k, s in zip(binding, shares.tolist(), strict=True) if s >= (1 - 1e-6) * float(shares.max())]
    for k in (KINDS.index(name) for name in limits):
        out[k] = min(room[k], float(placed[k]) / (nodes - 1))
    return tuple(out)


def _totals(mix: Mix, room: tuple[float, ...], binding: tuple[str, ...]) -> tuple[Array, Array]:
    """(5,) what all that fits asks for together, and (K,) which kinds fit on an empty node."""
    sizes = np.array(mix.sizes)
    index = [KINDS.index(k) for k in binding]
    fits: Array = np.all(sizes[:, index] <= np.array(room)[index] + _DUST, axis=1)
    return (sizes * np.array(mix.counts)[:, None])[fits].sum(axis=0), fits


def _packed(mix: Mix, room: tuple[float, ...], binding: tuple[str, ...]) -> tuple[int, Array]:
    """Nodes used, and (5,) what was placed on all of them but the last."""
    index = [KINDS.index(k) for k in binding]
    have = np.array(room)[index]
    totals, fits = _totals(mix, room, binding)
    sizes, counts = np.array(mix.sizes)[fits], np.array(mix.counts)[fits].astype(np.int64)
    want = sizes[:, index]
    share = np.divide(want, have, out=np.zeros_like(want), where=have > 0).max(axis=1)
    free = np.empty((0, len(index)))
    for i in np.argsort(-share, kind="stable").tolist():
        free = _placed(free, have, want[i], int(counts[i]))
    if not len(free):
        return 0, totals
    totals[index] -= have - free[-1]
    return len(free), totals


def _placed(free: Array, have: Array, want: Array, n: int) -> Array:
    """Free room of the nodes after n like tasks were put on them, first fit; new nodes at the end."""
    positive = want > 0
    if not positive.any():
        return free if len(free) else have[None, :].copy()
    if len(free):
        slots = np.floor((free[:, positive] + _DUST) / want[positive]).min(axis=1).astype(np.int64)
        take = np.clip(n - (np.cumsum(slots) - slots), 0, slots)
        free = free - take[:, None] * want
        n -= int(take.sum())
    each = max(int(np.floor((have[positive] + _DUST) / want[positive]).min()), 1)
    if n <= 0:
        return free
    whole, rest = divmod(n, each)
    new = np.repeat((have - each * want)[None, :], whole, axis=0)
    if rest:
        new = np.concatenate([new, (have - rest * want)[None, :]])
    return np.concatenate([free, new])
