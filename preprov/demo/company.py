"""A believable company: a retailer with five teams, their DAGs, and the habits that make one night unlike the next.

Nothing here is measured at one company. Each number says what it stands for and where it comes from; what no source
gives is called an assumption. The sources are public: task traces of four nf-core pipelines (chipseq, eager, mag,
rnaseq, as published with the Sizey prototype; 93 processes that ran eight times or more), and six job logs of the
Parallel Workloads Archive (NASA iPSC, LANL CM5, SDSC BLUE, HPC2N, CEA Curie, KTH SP2).
"""

from dataclasses import dataclass
from typing import Final

ZONE: Final = "Europe/Zurich"
COUNTRY: Final = "CH"


@dataclass(frozen=True, slots=True)
class TaskShape:
    """A task as its team wrote it.

    Attributes:
        seconds: median runtime on a usual night. cpu: cores of one copy. copies: how many identical instances run.
        gib_per_core: memory asked for, per core. 2.5 is the median request of the nf-core traces (middle 80 %: 1 to 6).
    """

    name: str
    seconds: float
    cpu: float
    copies: int = 1
    parents: tuple[str, ...] = ()
    gib_per_core: float = 2.5


@dataclass(frozen=True, slots=True)
class DagShape:
    """A DAG, its owner and its schedule.

    Attributes:
        cron: five fields in the company's zone; "" = only when somebody asks for it.
        month_end: factor on its input on the last day of a month (an assumption: the books are closed then).
    """

    dag_id: str
    tenant: str
    cron: str
    tasks: tuple[TaskShape, ...]
    priority: int = 0
    month_end: float = 1.0

    @property
    def core_seconds(self) -> float:
        """What a usual run takes in all."""
        return sum(t.seconds * t.cpu * t.copies for t in self.tasks)


@dataclass(frozen=True, slots=True)
class Habits:
    """What differs from run to run and from day to day.

    Attributes:
        input_sigma: log-sd of a run's input size, shared by its tasks. With task_sigma it makes up .30, the median over
            the nf-core processes (quartiles .19 and .55); how the two share it is an assumption: a big night is big for
            every step.
        task_sigma: log-sd of one task beside that: noise of disks, neighbours and caches.
        weekly_growth: the input grows by this share a week: 30 % a year, an assumption.
        weekend_input: input of a Saturday's or Sunday's run against a weekday's; an assumption, mild because much of
            it is in the schedules already.
        start_lag_s: median and p95 from a turn to its run. Five seconds is the loop of a common scheduler.
        skipped: share of daily turns that never ran (somebody paused the DAG); an assumption.
        late: share of daily turns that ran late, by about an hour: a source was not there in time; an assumption.
        adhoc_per_workday: runs that people start by hand on a workday; an assumption for five teams.
        adhoc_weekend: such runs on a weekend day against a workday: mean over the six logs (.29 to .61).
        adhoc_hours: share of a workday's submissions in each hour from 0 to 23, percent: mean over the six logs.
    """

    input_sigma: float = 0.25
    task_sigma: float = 0.17
    weekly_growth: float = 0.005
    weekend_input: float = 0.8
    start_lag_s: tuple[float, float] = (5.0, 12.0)
    skipped: float = 0.02
    late: float = 0.03
    adhoc_per_workday: float = 24.0
    adhoc_weekend: float = 0.43
    adhoc_hours: tuple[float, ...] = (
        *(2.0, 1.4, 1.2, 1.0, 1.0, 1.3, 1.8, 2.7, 4.2, 6.3, 7.6, 7.8),
        *(6.9, 7.5, 8.1, 8.0, 7.7, 6.0, 4.7, 3.0, 2.6, 2.6, 2.4, 2.0),
    )


@dataclass(frozen=True, slots=True)
class Company:
    """Who runs what.

    Attributes:
        scheduled: DAGs with a cron. adhoc: DAGs that people start by hand, drawn with equal chance.
    """

    scheduled: tuple[DagShape, ...]
    adhoc: tuple[DagShape, ...]
    habits: Habits = Habits()
    zone: str = ZONE

    def dag(self, dag_id: str) -> DagShape:
        """The DAG of that id (KeyError if there is none)."""
        for d in (*self.scheduled, *self.adhoc):
            if d.dag_id == dag_id:
                return d
        raise KeyError(dag_id)


def stages(*rows: tuple[str, int, float, float], gib_per_core: float = 2.5) -> tuple[TaskShape, ...]:
    """Tasks one after the other, each (name, copies, cores, median seconds)."""
    out: list[TaskShape] = []
    for name, copies, cpu, seconds in rows:
        parents = (out[-1].name,) if out else ()
        out.append(TaskShape(name, seconds, cpu, copies, parents, gib_per_core))
    return tuple(out)


def _nightly() -> tuple[DagShape, ...]:
    """What the night is for: yesterday's business into the warehouse, then what is computed on it."""
    return (
        DagShape(
            "sales.orders_etl",
            "sales",
            "0 2 * * *",
            stages(
                ("extract", 2, 2, 45),
                ("stage", 6, 2, 70),
                ("transform", 6, 4, 95),
                ("load", 1, 4, 40),
                ("checks", 1, 1, 20),
            ),
            priority=5,
        ),
        DagShape(
            "finance.payments_etl",
            "finance",
            "0 2 * * *",
            stages(("extract", 3, 2, 60), ("reconcile", 3, 4, 110), ("ledger", 1, 2, 45)),
            priority=8,
            month_end=1.4,
        ),
        DagShape(
            "logistics.inventory",
            "logistics",
            "0 2 * * *",
            stages(("scan", 6, 2, 80), ("merge", 1, 4, 60), ("publish", 1, 1, 20)),
        ),
        DagShape(
            "platform.web_logs",
            "platform",
            "0 2 * * *",
            stages(("parse", 10, 2, 75), ("sessions", 5, 4, 100), ("rollup", 1, 4, 50)),
        ),
        DagShape(
            "sales.customers_etl",
            "sales",
            "5 2 * * *",
            stages(("extract", 1, 2, 40), ("dedupe", 4, 4, 80), ("load", 1, 2, 35)),
        ),
        DagShape(
            "finance.month_close",
            "finance",
            "5 2 L * *",
            stages(("accounts", 6, 4, 100), ("consolidate", 1, 8, 90), ("statements", 3, 2, 40)),
            priority=9,
        ),
        DagShape(
            "ml.features",
            "ml",
            "10 2 * * *",
            stages(("join", 8, 4, 75), ("aggregate", 4, 4, 80), ("publish", 1, 2, 30), gib_per_core=4.0),
        ),
        DagShape("sales.marts", "sales", "30 2 * * *", stages(("models", 8, 2, 120), ("tests", 2, 1, 60))),
        DagShape(
            "ml.train_demand",
            "ml",
            "30 3 * * *",
            stages(("split", 1, 4, 90), ("fit", 5, 8, 420), ("evaluate", 1, 4, 120), gib_per_core=4.0),
        ),
        DagShape("logistics.routes", "logistics", "30 4 * * 1-6", stages(("solve", 6, 4, 260), ("publish", 1, 1, 30))),
        DagShape("finance.risk", "finance", "0 5 * * 1-5", stages(("paths", 10, 2, 200), ("report", 1, 2, 60))),
        DagShape("sales.dashboards", "sales", "30 5 * * *", stages(("refresh", 6, 1, 90), ("notify", 1, 1, 15))),
        DagShape(
            "platform.backup_check", "platform", "0 23 * * *", stages(("restore", 2, 4, 300), ("verify", 2, 2, 120))
        ),
    )


def _through_the_day() -> tuple[DagShape, ...]:
    """Small DAGs that come round again and again, and what follows office hours or the calendar."""
    return (
        DagShape("platform.metrics", "platform", "*/15 * * * *", stages(("scrape", 2, 1, 25), ("rollup", 1, 2, 30))),
        DagShape("sales.sync", "sales", "20 * * * *", stages(("pull", 2, 1, 50), ("push", 1, 1, 25))),
        DagShape("finance.fraud", "finance", "*/30 * * * *", stages(("score", 2, 2, 60)), priority=9),
        DagShape(
            "sales.office_report", "sales", "0 8-18/2 * * 1-5", stages(("query", 4, 2, 150), ("render", 1, 1, 40))
        ),
        DagShape(
            "logistics.carriers", "logistics", "15 6-20/2 * * 1-6", stages(("poll", 3, 1, 60), ("plan", 1, 4, 110))
        ),
        DagShape(
            "finance.invoices",
            "finance",
            "30 17 * * 1-5",
            stages(("render", 8, 1, 120), ("send", 1, 1, 60)),
            month_end=2.5,
        ),
        DagShape(
            "ml.cohorts", "ml", "0 6 * * 1", stages(("build", 6, 4, 400), ("publish", 1, 2, 60), gib_per_core=4.0)
        ),
        DagShape(
            "ml.recommender", "ml", "0 22 * * 0", stages(("sample", 2, 4, 200), ("fit", 4, 8, 900), gib_per_core=4.0)
        ),
        DagShape(
            "platform.retention",
            "platform",
            "30 1 * * 6",
            stages(
                ("sweep", 4, 2, 240),
            ),
        ),
    )


def _by_hand() -> tuple[DagShape, ...]:
    """What people start themselves."""
    return (
        DagShape("adhoc.query", "sales", "", stages(("query", 1, 4, 90))),
        DagShape("adhoc.notebook", "ml", "", stages(("load", 1, 2, 60), ("explore", 1, 4, 300), gib_per_core=4.0)),
        DagShape(
            "adhoc.experiment", "ml", "", stages(("prepare", 1, 2, 90), ("trial", 4, 2, 240), ("collect", 1, 1, 20))
        ),
        DagShape(
            "adhoc.backfill",
            "platform",
            "",
            stages(("extract", 2, 2, 60), ("transform", 4, 4, 120), ("load", 1, 4, 60)),
        ),
    )


def retailer() -> Company:
    """The company of the demonstration: 22 scheduled DAGs of five teams, and four kinds of work started by hand."""
    return Company(scheduled=(*_nightly(), *_through_the_day()), adhoc=_by_hand())
