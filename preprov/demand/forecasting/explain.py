"""Which features moved the forest: overall, and for each hour of a forecast."""

from collections.abc import Mapping

import numpy as np

from preprov.demand.forecasting.forest import FittedForest
from preprov.demand.forecasting.member import FittedMember
from preprov.demand.forecasting.view import View

_TOP = 3


def _forest(members: Mapping[str, FittedMember]) -> FittedForest | None:
    for name in ("forest_change", "forest_level"):
        member = members.get(name)
        if isinstance(member, FittedForest):
            return member
    return None


def importances(members: Mapping[str, FittedMember], view: View) -> dict[str, float]:
    """Feature -> share of the variance that the forest's splits explained, largest first; empty without a forest."""
    forest = _forest(members)
    if forest is None:
        return {}
    pairs = zip(view.names(), forest.importances.tolist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: -pair[1]))


def moved(members: Mapping[str, FittedMember], view: View, horizon: int) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Per step ahead, the features that moved the forest's mean most from its average, with their signed effect.

    Effects are sums of the change of node means along each row's path (Saabas 2014); empty without a forest.
    """
    forest = _forest(members)
    if forest is None:
        return ()
    rows = view.rows(np.full(horizon, len(view) - 1), np.arange(1, horizon + 1))
    effects, names = forest.trees.effects(rows), view.names()
    order = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :_TOP]
    return tuple(tuple((names[f], float(effects[h, f])) for f in order[h]) for h in range(horizon))
