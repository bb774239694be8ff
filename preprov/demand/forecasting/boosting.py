"""LightGBM member: one boosted model per quantile on the change since the last value; only where it is installed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting.member import Member, learnable_rows
from preprov.demand.forecasting.quantiles import at_levels, uncross
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.model.errors import UnsafeModelError

LEVELS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def available() -> bool:
    """Whether lightgbm can be imported."""
    return find_spec("lightgbm") is not None


@dataclass(frozen=True)
class FittedBoosting:
    """Boosters in the order of LEVELS, and their text form (LightGBM's own, no code in it)."""

    boosters: tuple[Any, ...]

    def predict_at(self, view: View, origins: Ints, horizon: int, quantiles: Sequence[float]) -> Floats:
        """(O, H, Q) for the `horizon` steps after each origin."""
        rows = view.rows(np.repeat(origins, horizon), np.tile(np.arange(1, horizon + 1), len(origins)))
        inner = np.stack([b.predict(rows, num_threads=1) for b in self.boosters], axis=1)
        levels = at_levels(uncross(inner), LEVELS, quantiles).reshape(len(origins), horizon, len(quantiles))
        return levels + view.filled[origins][:, None, None]

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Plain arrays to store."""
        return {
            f"booster_{i}": np.frombuffer(booster.model_to_string().encode(), dtype=np.uint8)
            for i, booster in enumerate(self.boosters)
        }


@dataclass(frozen=True)
class Boosting(Member):
    """Gradient-boosted quantile regression; see the module."""

    rounds: int = 120
    rows: int = 16_000
    days: float = 10.0

    @property
    def name(self) -> str:
        """Name of the member."""
        return "lightgbm"

    def min_days(self) -> float:
        """Days of known steps it needs."""
        return self.days

    def fit_view(self, view: View, horizon: int, seed: int) -> FittedBoosting:
        """Boost on one thread."""
        import lightgbm

        origins, ahead = learnable_rows(view, horizon, self.rows, seed)
        target = view.filled[origins + ahead] - view.filled[origins]
        shared = {
            "objective": "quantile",
            "num_leaves": 16,
            "learning_rate": 0.06,
            "min_data_in_leaf": 40,
            "feature_fraction": 0.5,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": 1,
            "deterministic": True,
            "force_col_wise": True,
            "seed": seed % 2**31,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(view.rows(origins, ahead), target, free_raw_data=False)
        boosters = tuple(lightgbm.train({**shared, "alpha": level}, data, self.rounds) for level in LEVELS)
        return FittedBoosting(boosters)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedBoosting:
        """From `state()`."""
        import lightgbm

        try:
            texts = [state[f"booster_{i}"].tobytes().decode() for i in range(len(LEVELS))]
            boosters = tuple(lightgbm.Booster(model_str=text) for text in texts)
        except (KeyError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise UnsafeModelError("a stored LightGBM member is damaged", hint="retrain the model") from error
        return FittedBoosting(boosters)
