"""What Slurm lets change of a job that was submitted: requests until it runs, its time limit, and signals."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from preprov.contracts import LimitsJobs
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds
from preprov.model.errors import NotFoundError, RefusedError
from preprov.model.nodes import Node
from preprov.model.resources import Resources
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.records import SlurmJob

_MIB: Final = 1024.0
CAN: Final = Adjustable(
    pending=frozenset({"cpu", "memory"}),
    time_limit=True,
    checkpoint=True,
    booked=True,
    why_not="Slurm changes cores and memory of a job only until it runs",
)
CAN_ON_MACHINES: Final = replace(
    CAN,
    running=frozenset({"cpu", "memory"}),
    why_not="of a job that runs its cgroups are changed, to no less than it asked for: Slurm gives that to nobody else",
)
_LIFTED_S: Final = 60.0


def requests(amount: Resources) -> dict[str, int]:
    """Whole cores and MiB, as a job asks for them."""
    return {
        "CPUsPerTask": max(math.ceil(amount.cpu - 1e-9), 1),
        "MinMemoryNode": max(math.ceil(amount.memory * _MIB), 1),
    }


def resize(
    slurm: SlurmCommands,
    job: SlurmJob | None,
    amount: Resources,
    node: Node,
    machine: "Machine | None" = None,
    lease_s: float = 0.0,
) -> Resources:
    """Let a pending job ask for so much, and one that runs use so much on its machine.

    Raises:
        NotFoundError: it is over. RefusedError: it runs, and nobody limits it there. ConflictError: there is no room.
    """
    found = _there(job, node)
    if found.runs and machine is not None:
        return machine.limit(found, amount, lease_s)
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


class Machines:
    """Agents of the machines behind a cluster's nodes, which limit its jobs there.

    Args:
        of: what reaches those of a vendor; None = nothing does.
    """

    def __init__(self, of: Callable[[str], LimitsJobs | None]) -> None:
        self._of = of

    def behind(self, node: Node, vendor: str) -> "Machine | None":
        """That of a node; None where it has none that can be reached."""
        agents = self._of(vendor) if node.machine is not None else None
        return Machine(agents, node.machine) if agents is not None and node.machine is not None else None


class Machine:
    """One machine of a cluster, by its agent."""

    def __init__(self, agents: LimitsJobs, machine: Node) -> None:
        self._agents, self._machine = agents, machine

    def bounds(self) -> Mapping[int, Bounds]:
        """Of the jobs there."""
        return self._agents.job_bounds(self._machine)

    def limit(self, job: SlurmJob, amount: Resources, lease_s: float) -> Resources:
        """Let a running job use so much, and no less than it asked for; returns what it has."""
        asked = Resources(cpu=job.cpus, memory=job.memory_mib / _MIB)
        wanted = amount.maximum(asked)
        told = self._agents.limit_job(job.job_id, self._machine, wanted, lease_s)
        in_force = {"cpu": told.cpu or wanted.cpu, "memory": told.memory or wanted.memory}
        if "cpu" not in told.can:
            in_force["cpu"] = job.cpus
        return Resources.of({**amount.as_dict(), **in_force})

    def lift(self, job: SlurmJob) -> None:
        """As Slurm had it."""
        self._agents.limit_job(job.job_id, self._machine, None, _LIFTED_S)


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
