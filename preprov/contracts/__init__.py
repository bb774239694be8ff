"""Every boundary, a page for each side. An adapter implements one of these; a use case is handed them by `app`.

Rules that hold for all: instants are aware; an absent thing is `None` or an empty tuple, never an exception, unless the
docstring says so; every write is idempotent by the key it names; a `retryable` error may be tried again later by the
caller's next pass, nothing here retries by itself except an SDK inside its own call.
"""

from preprov.contracts.base import Clock, Progress
from preprov.contracts.launch import Scheduler, TaskReport
from preprov.contracts.learning import (
    ForecastStore,
    LeadObservation,
    LeadTimeStore,
    LearningStore,
    ModelStore,
    ModelVersion,
    PromiseStore,
)
from preprov.contracts.pools import (
    Adopts,
    Capabilities,
    Examined,
    Finding,
    GivesNotice,
    LaunchRequest,
    LeasesRaises,
    Notice,
    PoolProvider,
    PriceBook,
    Quote,
    Quotes,
    SetsTargets,
    Tended,
)
from preprov.contracts.sources import Reject, SourceBatch, UsageSource, WorkSource
from preprov.contracts.store import (
    AuditLog,
    HistoryStore,
    IntentStore,
    LeaseStore,
    PlanStore,
    PoolSnapshot,
    Ports,
    ReservationLedger,
    VoteStore,
)
from preprov.contracts.work import IngestResult, SampleStore, WorkStore

__all__ = [
    "Adopts",
    "AuditLog",
    "Capabilities",
    "Clock",
    "Examined",
    "Finding",
    "ForecastStore",
    "GivesNotice",
    "HistoryStore",
    "IngestResult",
    "IntentStore",
    "LaunchRequest",
    "LeadObservation",
    "LeadTimeStore",
    "LearningStore",
    "LeaseStore",
    "LeasesRaises",
    "ModelStore",
    "ModelVersion",
    "Notice",
    "PlanStore",
    "PoolProvider",
    "PoolSnapshot",
    "Ports",
    "PriceBook",
    "Progress",
    "PromiseStore",
    "Quote",
    "Quotes",
    "Reject",
    "ReservationLedger",
    "SampleStore",
    "Scheduler",
    "SetsTargets",
    "SourceBatch",
    "TaskReport",
    "Tended",
    "UsageSource",
    "VoteStore",
    "WorkSource",
    "WorkStore",
]
