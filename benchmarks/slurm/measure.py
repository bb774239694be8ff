"""What a night was like, from Slurm's own accounting: who waited how long, and how long nodes were not powered down."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from preprov.model.time import from_epoch
from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import SlurmCommands, connect
from preprov.testing.slurm_cluster import SlurmCluster

_OFF: Final = "~"
"""How Slurm marks the state of a node that is powered down."""


@dataclass(frozen=True)
class Night:
    """Of one side.

    Attributes:
        waits_s: of each job, from when it could start to when it did. node_min: minutes that nodes were not powered
            down, so powering up and down is in it. ended: jobs that did not end well.
    """

    waits_s: tuple[float, ...]
    node_min: float
    core_min: float
    boots: int
    ended: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """For JSON."""
        waits = np.array(self.waits_s) if self.waits_s else np.zeros(1)
        return {
            "jobs": len(self.waits_s),
            "wait_median_s": float(np.median(waits)),
            "wait_p95_s": float(np.quantile(waits, 0.95)),
            "wait_mean_s": float(waits.mean()),
            "waited_over_5s": float((waits > 5).mean()),
            "node_minutes": round(self.node_min, 2),
            "core_minutes": round(self.core_min, 2),
            "boots": self.boots,
            "not_completed": list(self.ended),
            "waits_s": sorted(self.waits_s),
        }


def measure(cluster: SlurmCluster, begin: float, end: float) -> Night:
    """The night that began and ended then, wall; jobs belong to it that were submitted within."""
    slurm = connect(cluster.conf)
    jobs = [j for j in jobs_of(slurm, begin, end) if begin <= (j.submitted_at or 0.0) < end]
    waits = [max(j.started_at - j.eligible_at, 0.0) for j in jobs if j.started_at and j.eligible_at]
    ran = sum((j.ended_at - j.started_at) * j.cpus for j in jobs if j.started_at and j.ended_at) / 60
    bad = tuple(f"{j.job_id} {j.name}: {j.state}" for j in jobs if j.state != "COMPLETED" or not j.started_at)
    minutes, boots = node_minutes(cluster, begin, end)
    return Night(tuple(waits), minutes, ran, boots, bad)


def jobs_of(slurm: SlurmCommands, begin: float, end: float) -> Sequence[AccountedJob]:
    """Jobs of the accounting in that time."""
    return slurm.accounting(from_epoch(begin - 1), from_epoch(end + 600))


def node_minutes(cluster: SlurmCluster, begin: float, end: float) -> tuple[float, int]:
    """(minutes that nodes were not powered down, times that one was powered up) in [begin, end]."""
    window = f"start={_local(begin - 86_400)}"
    text = cluster.run("sacctmgr", "-n", "-P", "show", "event", window, "format=nodename,state,timestart,timeend")
    names = cluster.run("sinfo", "-h", "-N", "-a", "-o", "%N").split()
    off: dict[str, list[tuple[float, float]]] = {n: [] for n in dict.fromkeys(names)}
    for line in text.splitlines():
        name, state, since, until = line.split("|")
        if name in off and _OFF in state:
            off[name].append((_epoch(since), _epoch(until)))
    up, boots = 0.0, 0
    for spans in off.values():
        down = sum(max(min(u, end) - max(s, begin), 0.0) for s, u in spans)
        up += end - begin - down
        boots += sum(begin <= u < end for _, u in spans)
    return up / 60, boots


def _local(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%dT%H:%M:%S")


def _epoch(text: str) -> float:
    """As sacctmgr prints it; "Unknown" = not yet."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        return float("inf")
