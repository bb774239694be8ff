"""What the size of a task says of its runtime: all that is known of a task whose like was never seen.

The size of a task is the cores of all its instances together, in classes of a factor of four. What tasks of a class run
longer than others is taken off before runtimes are compared, and put on again: a signature with a history of its own
loses nothing by it, one without is not taken for one of the many small ones.
"""

from typing import Final

import numpy as np
import pandas as pd

from preprov.demand.runtime_tables import Floats, Ints

CLASSES: Final = 12
_FACTOR_LOG2: Final = 2.0
_LEAST_CORES: Final = 0.25
_PRIOR: Final = 5.0  # tasks that the mean of all classes is worth


def size_class(tasks: pd.DataFrame) -> Ints:
    """(T,) class of each task, 0..CLASSES-1; of tasks that want no cores (sensors), 0."""
    cores = np.nan_to_num(tasks["cpu"].to_numpy(np.float64)) * tasks["instances"].to_numpy(np.float64)
    steps = np.log2(np.maximum(cores, _LEAST_CORES) / _LEAST_CORES) / _FACTOR_LOG2
    out: Ints = np.clip(np.rint(steps), 0, CLASSES - 1).astype(np.int64)
    return out


def learn_sizes(size: Ints, log_runtime: Floats, weight: Floats) -> Floats:
    """(CLASSES,) what is added to log runtimes of each class; one that was never seen takes the nearest one's."""
    mass = np.bincount(size, weights=weight, minlength=CLASSES)
    total = float(mass.sum())
    if total <= 0:
        return np.zeros(CLASSES)
    centre = float((weight * log_runtime).sum()) / total
    sums = np.bincount(size, weights=weight * (log_runtime - centre), minlength=CLASSES)
    seen = np.flatnonzero(mass > 0)
    out: Floats = np.interp(np.arange(CLASSES), seen, (sums / (mass + _PRIOR))[seen])
    return out
