"""What makes work wait, by name: causes, the limits behind them, and how a task says which of them it is under."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Cause(StrEnum):
    """Why a task that could start did not."""

    AIRFLOW_POOL = "airflow_pool"
    MAX_ACTIVE_TASKS = "max_active_tasks"
    MAX_ACTIVE_RUNS = "max_active_runs"
    WORKERS = "worker_concurrency"
    """The worker it went to was full; or all slots of the orchestrator were taken."""
    WORK_POOL = "work_pool"
    WORK_QUEUE = "work_queue"
    SLURM_PRIORITY = "slurm_priority"
    SLURM_LIMIT = "slurm_limit"
    SLURM_PARTITION = "slurm_partition"
    """All cores of its partition were taken, those of nodes that are powered down counted: none could be powered up."""
    QUOTA = "quota"
    """Its tenant, or its queue, held as much as it may."""
    HELD = "held"
    """Somebody held it back: it was suspended, or behind a gate."""
    SCHEDULER = "scheduler"
    ROOM = "room"
    """No node had room, and none was on its way yet."""
    ALLOCATE = "allocate"
    BOOT = "boot"
    IMAGE = "image"
    DATA = "data"
    JOIN = "join"
    UNKNOWN = "unknown"


FAMILY: Final[Mapping[Cause, str]] = {
    **dict.fromkeys(Cause, "limits"),
    Cause.SCHEDULER: "scheduler",
    **dict.fromkeys((Cause.ROOM, Cause.ALLOCATE, Cause.BOOT, Cause.JOIN), "node"),
    Cause.IMAGE: "image",
    Cause.DATA: "data",
    Cause.UNKNOWN: "unknown",
}
"""The coarse word for each cause."""
FAMILIES: Final = ("limits", "scheduler", "node", "image", "data", "unknown")
NODES_HELP: Final = frozenset({"node", "image", "data"})
"""Families of waiting that nodes which are warm in time would have spared."""


@dataclass(frozen=True, slots=True)
class SlotLimit:
    """A limit that an orchestrator keeps: no more than so many slots are taken at once.

    Attributes:
        cause: what waiting for it is called. name: as its owner calls it; for limits of a DAG, the DAG's id.
        slots: how many there are. per_run: each run of the DAG has so many. source: who keeps it.
        reserved: (since, until, slots), epoch seconds: so many of them are kept for others meanwhile.
    """

    cause: Cause
    name: str
    slots: float
    per_run: bool = False
    source: str = ""
    reserved: tuple[tuple[float, float, float], ...] = ()

    @property
    def key(self) -> str:
        """How a task names it."""
        return limit_key(self.cause, self.source, self.name)


_CAUSES: Final = {str(c): c for c in Cause}


def limit_key(cause: Cause, source: str, name: str) -> str:
    """`cause/source/name`: what a task's slot is of, or what it was last said to wait for."""
    return f"{cause}/{source}/{name}"


@lru_cache(maxsize=65_536)
def of_key(key: str) -> tuple[Cause | None, str, str]:
    """(cause, source, name) of a key; no cause if it is none."""
    cause, _, rest = key.partition("/")
    source, _, name = rest.partition("/")
    return (_CAUSES[cause], source, name) if cause in _CAUSES else (None, "", "")
