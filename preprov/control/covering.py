"""What is foreseen anyway of the work that reservations are for, so that it is not wanted twice."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import inputs
from preprov.control.remembering import remembered
from preprov.demand.curve import demand_curve
from preprov.model.errors import ForecastError
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation
from preprov.model.resources import KINDS
from preprov.model.time import floor_to
from preprov.model.worktable import WorkTable
from preprov.planning.inputs import Foreseen

_FRESH: Final = timedelta(minutes=10)
_SAMPLES: Final = 50
"""Enough for a mean."""


def foreseen(ctx: Context, pool: Pool, reservations: Iterable[Reservation]) -> Mapping[str, Foreseen]:
    """`covers` of the pool's live reservations -> mean demand that is expected of that tenant or DAG."""
    until = ctx.clock.now() + timedelta(seconds=pool.horizon_s)
    wanted = {r.covers for r in reservations if r.covers and r.purpose is not Purpose.TASK and r.start < until}
    return {c: remembered(ctx, (pool.name, "covered", c), _FRESH, lambda c=c: _expected(ctx, pool, c)) for c in wanted}  # type: ignore[misc]


def _expected(ctx: Context, pool: Pool, covers: str) -> Foreseen:
    now = ctx.clock.now()
    kind, _, name = covers.partition(":")
    given = inputs(ctx, pool, now, start=floor_to(now, pool.step_seconds))
    narrow = replace(
        given,
        seen=_of(given.seen, kind, name),
        schedules=tuple(s for s in given.schedules if (s.tenant if kind == "tenant" else s.dag_id) == name),
        templates=None if given.templates is None else _of(given.templates, kind, name),
        series=None,
        learnt=None,
        n_samples=min(given.n_samples, _SAMPLES),
    )
    try:
        curve = demand_curve(narrow)
    except ForecastError:
        return Foreseen(given.start, pool.step_seconds, np.zeros((1, len(KINDS))))
    mean = curve.samples if curve.mean is None else curve.mean
    return Foreseen(curve.start, curve.step_seconds, mean.mean(axis=0, dtype=np.float64))


def _of(work: WorkTable, kind: str, name: str) -> WorkTable:
    column = "tenant" if kind == "tenant" else "dag_id"
    return work.select_runs((work.runs[column] == name).to_numpy())
