"""The track record: what each member said, out of sample, at past origins, beside what then happened.

Weights, calibration, coverage and the copula of the joint samples are all learnt from it, and from nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.member import FittedMember
from preprov.demand.forecasting.quantiles import GRID, uncross
from preprov.demand.forecasting.view import Floats, Ints, View


@dataclass(frozen=True, eq=False)
class Track:
    """Past forecasts, oldest first.

    Attributes:
        names: M members. origins: (O,) number, since the epoch, of the last step known at each origin.
        said: (O, M, H, G) float32 on the inner grid, NaN where a member had no forecast. came: (O, H), NaN = unknown or
            quarantined.
    """

    names: tuple[str, ...]
    origins: Ints
    said: NDArray[np.float32]
    came: Floats

    @classmethod
    def empty(cls, names: tuple[str, ...], horizon: int) -> "Track":
        """Nothing said yet."""
        return cls(
            names,
            np.zeros(0, dtype=np.int64),
            np.zeros((0, len(names), horizon, len(GRID)), dtype=np.float32),
            np.zeros((0, horizon)),
        )

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def horizon(self) -> int:
        """H."""
        return int(self.came.shape[1])

    def last(self, count: int) -> "Track":
        """The newest `count` origins."""
        keep = slice(max(0, len(self) - count), None)
        return replace(self, origins=self.origins[keep], said=self.said[keep], came=self.came[keep])

    def extended(self, view: View, fitted: Mapping[str, FittedMember], positions: Ints) -> "Track":
        """With what `fitted` (learnt from steps up to the first position at most) say at more origins of `view`.

        Origins at which nobody speaks are left out.
        """
        if not len(positions):
            return self
        said = said_at(view, fitted, self.names, positions, self.horizon)
        spoken = np.isfinite(said.max(axis=(2, 3))).any(axis=1)
        positions, said = positions[spoken], said[spoken]
        came = outcome(view, positions, self.horizon)
        return replace(
            self,
            origins=np.concatenate([self.origins, view.base + positions]),
            said=np.concatenate([self.said, said]),
            came=np.concatenate([self.came, came]),
        )


def said_at(
    view: View, fitted: Mapping[str, FittedMember], names: tuple[str, ...], positions: Ints, horizon: int
) -> NDArray[np.float32]:
    """(O, M, H, G) forecasts of all members at positions of `view`; NaN for a member that is not fitted."""
    said = np.full((len(positions), len(names), horizon, len(GRID)), np.nan, dtype=np.float32)
    for j, name in enumerate(names):
        if name in fitted:
            said[:, j] = uncross(fitted[name].predict_at(view, positions, horizon, GRID))
    return said


def outcome(view: View, positions: Ints, horizon: int) -> Floats:
    """(O, H) what came after each position, NaN where it is unknown, quarantined or still to come."""
    target = positions[:, None] + np.arange(1, horizon + 1)
    inside = np.minimum(target, len(view) - 1)
    known = (target < len(view)) & view.learnable[inside]
    return np.where(known, view.filled[inside], np.nan)
