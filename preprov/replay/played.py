"""One replay of a sweep, and what is kept of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True, slots=True)
class Run:
    """One replay of a sweep."""

    lead_scale: float
    policy: str
    knob: float

    @property
    def key(self) -> str:
        """Its name."""
        return f"{self.lead_scale:g}/{self.policy}/{self.knob:g}"


@dataclass(frozen=True)
class Played:
    """What a replay left.

    Attributes:
        row: figures. judged: window, instances, what was left out.
        tenants: the largest by core-hours: tenant, instances, core_hours, wait_mean_s, wait_p95_s, warm_hit_ratio.
        nodes: at (epoch s), then nodes by phase from each instant on: a picture's worth of points.
        capacity: the rows of `capacity.COLUMNS`, if they were wanted.
    """

    row: Mapping[str, Any]
    judged: Mapping[str, Any]
    tenants: Sequence[Mapping[str, Any]] = ()
    nodes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    capacity: pd.DataFrame | None = None
