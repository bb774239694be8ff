"""What the commands print with `-o json`, as models; docs/reference/schemas holds the JSON Schemas made from them."""

from preprov.cli.documents.adoption import AdoptedGroups, AdoptedTerraform, PoolMode, RecalledLeads, Released
from preprov.cli.documents.base import Envelope
from preprov.cli.documents.claims import (
    MadeToken,
    OneReservation,
    OneToken,
    OneWindow,
    RemovedWindow,
    Reservations,
    Tokens,
    Units,
    Windows,
)
from preprov.cli.documents.images import BakedImages, Images, Pruned, RolledOut
from preprov.cli.documents.kubernetes import KubernetesManifests
from preprov.cli.documents.models import Models, OneModel, Promoted, Quarantine, Retrained
from preprov.cli.documents.nodes import NodePackage, NodeUserData
from preprov.cli.documents.planning import (
    Leads,
    Limits,
    Order,
    PreloadPlan,
    Prices,
    PricesOfType,
    PricesRefreshed,
    ServedPlaces,
)
from preprov.cli.documents.plans import Applied, Forecast, ForecastExplained, Plan, Reconciled
from preprov.cli.documents.pools import (
    Config,
    Doctor,
    Error,
    Halted,
    Ingested,
    OnePool,
    Pools,
    QueueAnalysis,
    Schema,
    Why,
)
from preprov.cli.documents.profiles import CurvesBacktest, RuntimeBacktest, SizingBacktest, TaskShow, TaskSizing
from preprov.cli.documents.replays import Replay, Scorecard, WhatIf
from preprov.cli.documents.reports import DemandBacktest, Demo, ForecastBacktest
from preprov.cli.documents.runs import OneRun, Runs, Submitted
from preprov.cli.documents.slurm import SlurmConfig, SlurmPower
from preprov.cli.documents.sources import RouteCheck, SourceAdded, Sources, SourceSync, SourceTest
from preprov.cli.documents.waits import Waits

__all__ = ["DOCUMENTS", "Error"]

DOCUMENTS: dict[str, type[Envelope]] = {
    "backtest curves": CurvesBacktest,
    "backtest demand": DemandBacktest,
    "backtest forecast": ForecastBacktest,
    "backtest runtime": RuntimeBacktest,
    "backtest sizing": SizingBacktest,
    "forecast run": Forecast,
    "forecast show": Forecast,
    "forecast explain": ForecastExplained,
    "replay": Replay,
    "whatif": WhatIf,
    "scorecard": Scorecard,
    "plan make": Plan,
    "plan show": Plan,
    "plan apply": Applied,
    "queue analyze": QueueAnalysis,
    "queue order": Order,
    "ingest swf": Ingested,
    "ingest wfformat": Ingested,
    "ingest dags": Ingested,
    "ingest nextflow": Ingested,
    "ingest series": Ingested,
    "source list": Sources,
    "source test": SourceTest,
    "source sync": SourceSync,
    "source add": SourceAdded,
    "route check": RouteCheck,
    "submit": Submitted,
    "task show": TaskShow,
    "task sizing": TaskSizing,
    "run list": Runs,
    "run show": OneRun,
    "pool list": Pools,
    "pool show": OnePool,
    "pool leads": Leads,
    "pool recall": RecalledLeads,
    "pool served": ServedPlaces,
    "pool reconcile": Reconciled,
    "pool adopt terraform": AdoptedTerraform,
    "pool adopt": AdoptedGroups,
    "pool release": Released,
    "pool mode": PoolMode,
    "limit list": Limits,
    "preload plan": PreloadPlan,
    "prices list": Prices,
    "prices show": PricesOfType,
    "prices refresh": PricesRefreshed,
    "node package": NodePackage,
    "node user-data": NodeUserData,
    "image bake": BakedImages,
    "image list": Images,
    "image rollout": RolledOut,
    "image prune": Pruned,
    "reservation list": Reservations,
    "reservation create": OneReservation,
    "reservation commit": OneReservation,
    "reservation resize": OneReservation,
    "reservation release": OneReservation,
    "reservation units": Units,
    "model list": Models,
    "model show": OneModel,
    "model retrain": Retrained,
    "model promote": Promoted,
    "model rollback": Promoted,
    "model quarantine list": Quarantine,
    "model quarantine add": Quarantine,
    "model quarantine lift": Quarantine,
    "reservation window add": OneWindow,
    "reservation window list": Windows,
    "reservation window remove": RemovedWindow,
    "kubernetes manifests": KubernetesManifests,
    "slurm config": SlurmConfig,
    "slurm resume": SlurmPower,
    "slurm suspend": SlurmPower,
    "slurm resume-fail": SlurmPower,
    "token create": MadeToken,
    "token list": Tokens,
    "token revoke": OneToken,
    "waits": Waits,
    "why node": Why,
    "why run": Why,
    "why action": Why,
    "halt": Halted,
    "doctor": Doctor,
    "db current": Schema,
    "config show": Config,
    "demo": Demo,
}
"""command -> the document it prints."""
