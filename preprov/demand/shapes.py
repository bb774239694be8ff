"""The shape of a DAG run: what it is made of, told as one number, so that runs alike are recognised at once."""

from typing import Any

import numpy as np
import pandas as pd

from preprov.demand.draws import Keys, mix
from preprov.demand.runtime_tables import Ints


def place_keys(signatures: Any, run: Ints) -> Keys:
    """(T,) key of each task's place: equal where whole runs have the same signatures in the same order, and there only.

    Args:
        signatures: (T,) of str. run: (T,) runs, each one's tasks together.
    """
    return keys_of_places(*pd.factorize(np.asarray(signatures, dtype=object)), run)


def keys_of_places(codes: Ints, unique: Any, run: Ints) -> Keys:
    """As `place_keys`, of signatures that were numbered: (T,) number of each one's among the `unique` ones."""
    if not len(codes):
        return np.empty(0, dtype=np.uint64)
    own = pd.util.hash_array(np.asarray(unique, dtype=object), categorize=False)[codes]
    first = np.flatnonzero(np.diff(run, prepend=run[0] - 1))
    counts = np.diff(np.append(first, len(run)))
    place = mix(own, (np.arange(len(run)) - np.repeat(first, counts)).astype(np.uint64))
    shape = np.repeat(np.add.reduceat(place, first), counts)
    return mix(place, shape)
