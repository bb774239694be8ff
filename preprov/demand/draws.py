"""Random numbers that belong to a task, not to a place in a stream.

Adding or leaving out a run then changes no number of any other run (common random numbers): differences between two
expansions are differences of the work. Each task's numbers are stratified over its samples, so that few samples carry
the mean and the tails well.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

Keys = NDArray[np.uint64]
Samples = NDArray[np.float32]

_FEWEST_BITS: Final = 8
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def key_of(names: Any, seed: int) -> Keys:
    """(N,) keys of N names, the same on every machine and in every process."""
    values = np.asarray(names, dtype=object)
    hashed = pd.util.hash_array(values, categorize=False) if len(values) else np.empty(0, np.uint64)
    return mix(hashed, np.uint64(seed & 0xFFFFFFFFFFFFFFFF))


def mix(keys: Keys, salt: NDArray[np.uint64] | np.uint64) -> Keys:
    """Keys of their own for the parts of a thing (splitmix64's finaliser; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = keys + (salt + np.uint64(1)) * _STEP
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out: Keys = x ^ (x >> np.uint64(31))
    return out


def strata(keys: Keys, n: int, columns: slice = slice(None)) -> tuple[NDArray[np.uint16], int]:
    """((K, n), m): for each key n distinct numbers of 0..m-1 in its own order, spread evenly over that range.

    Args:
        keys: (K,) contiguous. n: how many samples there are in all. columns: which of them are wanted now.
    """
    bits = min(16, max(1, int(np.ceil(np.log2(max(n, 2))))))
    extra = max(0, _FEWEST_BITS - bits)
    mask, half = np.uint16((1 << bits) - 1), np.uint16(bits // 2 + 1)
    words = keys[:, None].view(np.uint16)  # four independent 16-bit words a key
    odd = words | np.uint16(1)
    again = mix(keys, np.uint64(17))[:, None].view(np.uint16)
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint16)[None, columns] * odd[:, :1]
        x += words[:, 1:2]
        for a, b in ((odd[:, 2:3], words[:, 3:4]), (again[:, :1] | np.uint16(1), again[:, 1:2])):
            x &= mask
            x ^= x >> half
            x *= a
            x += b
        x &= mask
        x ^= x >> half
        if extra:
            low = x * (again[:, 2:3] | np.uint16(1)) + again[:, 3:4]
            x = (x << np.uint16(extra)) | ((low >> np.uint16(5)) & np.uint16((1 << extra) - 1))
    return x, 1 << (bits + extra)


def uniforms(keys: Keys, n: int, columns: slice = slice(None)) -> Samples:
    """(K, n) numbers in (0, 1), stratified along the second axis."""
    index, m = strata(keys, n, columns)
    return (index.astype(np.float32) + np.float32(0.5)) / np.float32(m)


def normals(keys: Keys, n: int, columns: slice = slice(None)) -> Samples:
    """(K, n) standard normal numbers, stratified along the second axis."""
    index, m = strata(keys, n, columns)
    return _scores(m)[index]


@lru_cache(maxsize=8)
def _scores(m: int) -> Samples:
    out: Samples = ndtri((np.arange(m) + 0.5) / m).astype(np.float32)
    return out
