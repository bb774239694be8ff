"""Changing what a running task may use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.resources import Resources


@runtime_checkable
class ResourceAdjuster(Protocol):
    """What a scheduler also is, if it can change the tasks that it has started.

    What it cannot change it declares, and refuses with a `RefusedError` that says why; a task that has ended, or never
    began, is a `NotFoundError`; whatever may be tried again is a ConflictError.
    """

    def adjustable(self, node: Node) -> Adjustable:
        """What can be changed of tasks on that node. Asks nobody."""
        ...

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """Let a task use so much from now on; of what is not adjustable the amount is not looked at.

        Idempotent. Returns the most that may be in force until it is seen again: no less memory than the task cannot
        give up, and what it had where less is made later. Reports say what is in force, and what is underway. Where
        the adjuster enforces limits itself they end after `lease_s` seconds unless they are set again, so that a
        controller that is gone leaves nobody short.
        """
        ...

    def lift(self, claimant: str, node: Node) -> None:
        """Give the task back what it would have without us. Absent = success."""
        ...

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """Tell a task to keep what it has done; it is ended after the grace. Repeating it does nothing."""
        ...

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """Let a task run for so long in all."""
        ...


@runtime_checkable
class LimitsJobs(Protocol):
    """What reaches agents also is, as far as a cluster's jobs are on their machines.

    Where a machine has no cgroups of a job, to limit it is a `RefusedError` that says so; where it has not the room,
    or does not answer, a ConflictError.
    """

    def job_bounds(self, machine: Node) -> Mapping[int, Bounds]:
        """Job -> its limits there; a job without cgroups is left out."""
        ...

    def limit_job(self, job: int, machine: Node, amount: Resources | None, lease_s: float) -> Bounds:
        """Limit all steps of a job there to so many cores and GiB, for `lease_s` seconds; None = as the cluster did."""
        ...


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that a person submitted, and that waits.

    Attributes:
        claimant, dag, task: as it is called once it is read as work. tenant: whose it is; "" = not said.
        group: of the pool, where it is to run. asked: cores and GiB. time_limit_s: None = none.
        can: of what it asks for, what may be changed.
    """

    job_id: int
    claimant: str
    dag: str
    task: str
    tenant: str
    group: str
    asked: Resources
    time_limit_s: float | None
    can: frozenset[str]


@runtime_checkable
class AsksAnew(Protocol):
    """What a scheduler also is, if what waits in its queue may ask for something else than it was submitted with."""

    def waiting(self, pool: Pool) -> tuple[WaitingJob, ...]:
        """Jobs of people that wait for nodes of a pool; those that cannot be changed for sure are left out."""
        ...

    def ask_anew(
        self, pool: Pool, job: WaitingJob, cpu: float | None, memory: float | None, time_limit_s: float | None
    ) -> None:
        """Have a job that waits ask for so many cores and GiB, and so long; None = as it does.

        Raises:
            NotFoundError: it is over. PoolError: the scheduler refused, as it runs by now, or has no right to.
        """
        ...

    def failed(self, pool: Pool, jobs: Collection[int]) -> frozenset[int]:
        """Of these jobs, which have ended otherwise than well by themselves."""
        ...
