"""Groups that preprov manages: how they were found, and what a pool has to show before preprov may act on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

BOOTS_FROM: Final = "boots_from"
"""Baseline's setting that says what new machines boot from: a mapping, with `image` as providers name their images.

Its `by` is "preprov" if a rollout of ours wrote it. Where its owner has changed it since, the owner's stays.
"""


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


def differences(was: Mapping[str, object], now: Mapping[str, object]) -> Mapping[str, tuple[object, object]]:
    """Setting -> (as found, as it is now) of those not as they were found; what its owner rolled out since is none."""
    out = {k: (v, now.get(k)) for k, v in was.items() if now.get(k) != v}
    if not is_ours(now.get(BOOTS_FROM)):
        out.pop(BOOTS_FROM, None)
    return out


def is_ours(boots_from: object) -> bool:
    """True if a rollout of ours wrote it."""
    return isinstance(boots_from, Mapping) and boots_from.get("by") == "preprov"


def image_needed(baseline: Mapping[str, object]) -> str:
    """The image that a baseline goes back to; "" if it names none."""
    found = baseline.get(BOOTS_FROM)
    return str(found.get("image", "")) if isinstance(found, Mapping) else ""
