"""Policies by name: those of the published comparison, and whatever others have installed."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from preprov.model.errors import ConfigError
from preprov.replay.clairvoyant import Clairvoyant
from preprov.replay.forecasters import AwsPredictive, HourOfWeek, PoolingQuantile
from preprov.replay.policies import Reactive, ReactiveMax, StaticRunning, StaticStopped
from preprov.replay.policy import Policy
from preprov.replay.production import Preprov

ENTRY_POINTS: Final = "preprov.policies"

BUILT_IN: Final[Mapping[str, Callable[[float | None], Policy]]] = MappingProxyType(
    {
        "reactive": Reactive,
        "reactive-max": ReactiveMax,
        "reactive-max-1h": partial(ReactiveMax, window_s=3600.0, name="reactive-max-1h"),
        "reactive-max-3h": partial(ReactiveMax, window_s=10_800.0, name="reactive-max-3h"),
        "static-running": StaticRunning,
        "always-on": partial(StaticRunning, name="always-on"),
        "static-stopped": StaticStopped,
        "schedule": HourOfWeek,
        "aws-predictive": AwsPredictive,
        "pooling-quantile": PoolingQuantile,
        "preprov": Preprov,
        "clairvoyant": Clairvoyant,
    }
)


def names() -> tuple[str, ...]:
    """All policies there are."""
    return tuple(dict.fromkeys([*BUILT_IN, *(e.name for e in entry_points(group=ENTRY_POINTS))]))


def make_policy(name: str, knob: float | None = None) -> Policy:
    """A new policy object; knob None = its default.

    Raises:
        ConfigError: there is none of that name, or it cannot be loaded.
    """
    make = BUILT_IN.get(name)
    if make is not None:
        return make(knob)
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            loaded: Policy = entry.load()(knob)
        except Exception as e:
            raise ConfigError(f"policy {name} cannot be loaded: {e}", where=entry.value) from e
        return loaded
    raise ConfigError(f"there is no policy {name!r}", hint=f"policies: {', '.join(names())}")


def version_of(name: str) -> str:
    """Which distribution an installed policy is of, with its version; "" for a built-in one, and where nobody says."""
    if name in BUILT_IN:
        return ""
    dists = [e.dist for e in entry_points(group=ENTRY_POINTS, name=name)]
    return " ".join(f"{d.name} {d.version}" for d in dists if d is not None)
