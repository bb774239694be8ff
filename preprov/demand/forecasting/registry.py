"""Members by name: the built-in ones, and third parties' through the entry-point group `preprov.forecasters`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from typing import Final

from preprov.demand.forecasting import boosting
from preprov.demand.forecasting.boosting import Boosting
from preprov.demand.forecasting.forest import Forest
from preprov.demand.forecasting.linear import Linear
from preprov.demand.forecasting.member import Foreign, Member
from preprov.demand.forecasting.naive import COPIES, Naive
from preprov.demand.forecasting.protocol import Forecaster
from preprov.demand.forecasting.seasonal import Seasonal
from preprov.model.errors import ConfigError, ForecastError

GROUP: Final = "preprov.forecasters"
NAIVE: Final = tuple(COPIES)
DEFAULT: Final = (*NAIVE, "seasonal", "linear", "forest_level", "forest_change", "lightgbm")

Factories = Mapping[str, Callable[[], Forecaster]]
_BUILT_IN: Final[Mapping[str, Callable[[], Member]]] = {
    **{kind: partial(Naive, kind) for kind in NAIVE},
    "seasonal": Seasonal,
    "linear": Linear,
    "forest_level": lambda: Forest(change=False),
    "forest_change": lambda: Forest(change=True),
    "lightgbm": Boosting,
}


@dataclass(frozen=True)
class Effort:
    """How much work the members that learn by trees may do: fewer trees and rows for a quick look or a test."""

    trees: int = 80
    rows: int = 12_000


def discover() -> dict[str, Callable[[], Forecaster]]:
    """Factories that installed distributions offer under the entry-point group, loaded; a broken one is an error.

    Raises:
        ForecastError: an entry point cannot be imported.
    """
    found: dict[str, Callable[[], Forecaster]] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ForecastError(
                f"forecaster {point.name!r} cannot be loaded: {error}", where=point.value, hint="uninstall or repair it"
            ) from error
    return found


def members(
    names: tuple[str, ...],
    extra: Factories | None = None,
    *,
    steps_per_day: int = 24,
    effort: Effort | None = None,
) -> list[Member]:
    """The members called `names`, in that order; built-in ones whose library is absent are left out.

    Args:
        names: of built-in ones, of `extra`, or of what is installed (see `discover`).
        extra: third parties' factories that are not installed.
        steps_per_day: what a third party's min_steps is measured against.
        effort: of the members that learn by trees.

    Raises:
        ConfigError: nobody offers a name.
        ForecastError: what is installed cannot be loaded.
    """
    offered = extra or {}
    if any(name not in _BUILT_IN and name not in offered for name in names):
        offered = {**discover(), **offered}
    out: list[Member] = []
    for name in names:
        if name in offered:
            out.append(Foreign(offered[name](), steps_per_day))
        elif name not in _BUILT_IN:
            known = ", ".join((*_BUILT_IN, *offered))
            raise ConfigError(f"no forecaster is called {name!r}", hint=f"one of {known}")
        elif name != "lightgbm" or boosting.available():
            out.append(_sized(_BUILT_IN[name](), effort or Effort()))
    return out


def _sized(member: Member, effort: Effort) -> Member:
    if isinstance(member, Forest):
        return replace(member, trees=effort.trees, rows=effort.rows)
    if isinstance(member, Boosting):
        return replace(member, rounds=max(1, round(1.2 * effort.trees)), rows=effort.rows)
    return member
