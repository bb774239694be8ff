"""What Slurm lets change of a job that was submitted: requests until it runs, its time limit, and signals."""

import math
import time
from typing import Final

from preprov.model.adjusting import Adjustable
from preprov.model.errors import NotFoundError, RefusedError
from preprov.model.pools import Node
from preprov.model.resources import Resources
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.records import SlurmJob

_MIB: Final = 1024.0
CAN: Final = Adjustable(
    pending=frozenset({"cpu", "memory"}),
    time_limit=True,
    checkpoint=True,
    why_not="Slurm changes cores and memory of a job only until it runs",
)


def requests(amount: Resources) -> dict[str, int]:
    """Whole cores and MiB, as a job asks for them."""
    return {
        "CPUsPerTask": max(math.ceil(amount.cpu - 1e-9), 1),
        "MinMemoryNode": max(math.ceil(amount.memory * _MIB), 1),
    }


def resize(slurm: SlurmCommands, job: SlurmJob | None, amount: Resources, node: Node) -> Resources:
    """Let a pending job ask for so much.

    Raises:
        NotFoundError: it is over. RefusedError: it runs.
    """
    found = _there(job, node)
    if found.state != "PENDING":
        said = f"job {found.job_id} is {found.state.lower()}: {CAN.why_not}"
        raise RefusedError(said, where=node.node_id, hint="its next run can ask for more")
    asked = requests(amount)
    fields = {"NumCPUs": asked["CPUsPerTask"], **asked}  # of the one task that a job is
    slurm.update_job(found.job_id, **{k: str(v) for k, v in fields.items()})
    in_force = {"cpu": float(asked["CPUsPerTask"]), "memory": asked["MinMemoryNode"] / _MIB}
    return Resources.of({**amount.as_dict(), **in_force})


def extend(slurm: SlurmCommands, job: SlurmJob | None, seconds: float, node: Node) -> None:
    """Let a job run for so long in all, in whole minutes.

    Raises:
        NotFoundError: it is over.
    """
    found = _there(job, node)
    slurm.update_job(found.job_id, TimeLimit=str(max(math.ceil(seconds / 60), 1)))


class Checkpoints:
    """Signals that were sent, so that the end follows when the grace is over: Slurm has no timer for it."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}

    def send(self, slurm: SlurmCommands, job: SlurmJob | None, name: str, grace_s: float, node: Node) -> None:
        """Signal a job once; asked again after the grace, end it.

        Raises:
            NotFoundError: it is over.
        """
        found = _there(job, node)
        now = time.monotonic()
        sent = self._sent.setdefault(found.job_id, now)
        if sent == now:
            slurm.signal(found.job_id, name)
        elif now - sent >= grace_s:
            slurm.cancel(found.job_id)


def _there(job: SlurmJob | None, node: Node) -> SlurmJob:
    if job is None or job.is_over:
        raise NotFoundError("it does not run and does not wait", where=node.node_id)
    return job
