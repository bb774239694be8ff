"""Paired bootstrap over origins: is one forecaster better than another, or was it luck?"""

from collections.abc import Sequence

import numpy as np

_DRAWS = 10_000


def p_no_better(champion: Sequence[float], challenger: Sequence[float], *, seed: int = 0) -> float:
    """How likely it is that the challenger is no better, given both losses at the same origins.

    Origins are drawn with replacement, each with both its losses, so that a hard day is hard for both (Efron &
    Tibshirani 1993, ch. 16); the share of draws in which the challenger's mean loss is not below the champion's.

    Args:
        champion, challenger: (O,) losses per origin, O >= 1. seed: of the draws.

    Returns:
        In (0, 1]; equal losses give 1.
    """
    difference = np.asarray(challenger, np.float64) - np.asarray(champion, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(difference), (_DRAWS, len(difference)))
    means = difference[draws].mean(axis=1)
    return float((np.count_nonzero(means >= 0) + 1) / (_DRAWS + 1))
