"""The tables, a module for each theme. Rows are rows: nothing here validates, and no row leaves the store."""

from preprov.store.rows.access import EventRow, TokenRow
from preprov.store.rows.adoption import AdoptionRow, InstallationRow
from preprov.store.rows.base import NAMING, Row
from preprov.store.rows.claims import LeadRow, LeaseRow, ReservationRow, VoteRow, WindowRow
from preprov.store.rows.decisions import ActionNodeRow, ActionRow, ForecastRow, PlanRow, SnapshotRow
from preprov.store.rows.intent import DrainRow, HaltRow, OverrideRow, PoolModeRow
from preprov.store.rows.learning import (
    BacktestRow,
    ForecastScoreRow,
    ModelRow,
    PromiseRow,
    PromotionRow,
    QuarantinedDayRow,
)
from preprov.store.rows.prices import OfferingPriceRow
from preprov.store.rows.sources import SourceLimitRow, SourceNoteRow, SourceRow, SourceRunRow, SourceShapeRow
from preprov.store.rows.work import (
    DagTemplateRow,
    DemandSeriesRow,
    HistoryBlockRow,
    IntakeRow,
    LiveRunRow,
    LiveTaskRow,
    ScheduleRow,
)

__all__ = [
    "NAMING",
    "ActionNodeRow",
    "ActionRow",
    "AdoptionRow",
    "BacktestRow",
    "DagTemplateRow",
    "DemandSeriesRow",
    "DrainRow",
    "EventRow",
    "ForecastRow",
    "ForecastScoreRow",
    "HaltRow",
    "HistoryBlockRow",
    "InstallationRow",
    "IntakeRow",
    "LeadRow",
    "LeaseRow",
    "LiveRunRow",
    "LiveTaskRow",
    "ModelRow",
    "OfferingPriceRow",
    "OverrideRow",
    "PlanRow",
    "PoolModeRow",
    "PromiseRow",
    "PromotionRow",
    "QuarantinedDayRow",
    "ReservationRow",
    "Row",
    "ScheduleRow",
    "SnapshotRow",
    "SourceLimitRow",
    "SourceNoteRow",
    "SourceRow",
    "SourceRunRow",
    "SourceShapeRow",
    "TokenRow",
    "VoteRow",
    "WindowRow",
]
