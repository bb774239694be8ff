"""Everything a demand forecast may know, in one value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from preprov.demand.arrivals import PredictedRun
from preprov.demand.learnt_model import LearntModel
from preprov.demand.runtimes import RuntimeModel
from preprov.model.pools import Pool
from preprov.model.series import SeriesHistory
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable


@dataclass(frozen=True)
class DemandInputs:
    """What is known at an instant, and what is asked.

    Attributes:
        at: the instant of knowledge. seen: work; what it says of later times is never looked at.
        schedules: declared. series: a demand series ingested as this pool's history, or None.
        start: where the first step begins. horizon_s, step_seconds: how far, and how fine.
        runtimes: learnt at or before `at`; None = learn them here. learnt: model of what is not known; None = fall back
            on past days.
        n_samples: joint sample paths. seed: of every random draw.
        predicted: further expected runs. templates: runs that show the shape of DAGs which never ran.
        recurring: recognise runs that come back without a declared schedule.
        quarantined: days, in the pool's zone, that the model of what is not known does not learn from.
    """

    pool: Pool
    at: datetime
    seen: WorkTable
    schedules: Sequence[Schedule]
    series: SeriesHistory | None
    start: datetime
    horizon_s: int
    step_seconds: int
    runtimes: RuntimeModel | None = None
    learnt: LearntModel | None = None
    n_samples: int = 200
    seed: int = 0
    predicted: tuple[PredictedRun, ...] = ()
    templates: WorkTable | None = None
    recurring: bool = True
    quarantined: frozenset[date] = frozenset()

    def with_learnt(self, learnt: LearntModel | None) -> "DemandInputs":
        """The same with another model of what is not known."""
        return replace(self, learnt=learnt)
