"""Groups that preprov manages: how they were found, and what a pool has to show before preprov may act on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Adoption:
    """A group as it was before preprov first wrote to it.

    Attributes:
        baseline: settings as its provider names them; what `restore` puts back.
        others: who else wrote its counts then. ignored: those of them that a person said are no concern.
        released_at: None = it is managed.
    """

    pool: str
    group: str
    baseline: Mapping[str, object]
    at: datetime
    actor: str
    others: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    released_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What a pool has to show before preprov may raise on it, and before it may also lower.

    Attributes:
        floor_nights, full_nights: nights that were observed, in the pool's zone.
        coverage: least share of what came that lay inside the 80 % interval of issued forecasts, over those nights.
    """

    floor_nights: int = 3
    full_nights: int = 7
    coverage: float = 0.7
