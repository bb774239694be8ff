"""Jobs that people submitted and that wait in a partition: what they ask for, asked anew before they run.

Only what can be named and changed for sure: a job of one node, no array, no component, waiting for no other job. Cores
of one that has several tasks are left as they are, for how they are laid out is its own affair.
"""

import math
from collections.abc import Collection, Iterator
from typing import Final

from preprov.contracts import WaitingJob
from preprov.model.resources import Resources
from preprov.slurm.commands import SlurmCommands
from preprov.slurm.naming import dag_of
from preprov.slurm.records import SlurmJob, is_over

_MIB: Final = 1024.0


def waiting(slurm: SlurmCommands, group: str, partition: str, ours: str, speed: float) -> list[WaitingJob]:
    """Those of a partition, in the order of their numbers; what has `ours` as its comment is no person's."""
    found = (j for j in slurm.jobs() if j.partition == partition and _is_plain(j) and not j.comment.startswith(ours))
    return [_job(j, group, speed) for j in sorted(found, key=lambda j: j.job_id)]


def _is_plain(job: SlurmJob) -> bool:
    alone = not (job.array_job_id or job.het_job_id or job.dependency) and job.node_count == 1
    return job.state == "PENDING" and alone and bool(job.name)


def _job(job: SlurmJob, group: str, speed: float) -> WaitingJob:
    return WaitingJob(
        job_id=job.job_id,
        claimant=f"{job.job_id}/{job.name}#0",
        dag=dag_of(job.user, job.name),
        task=job.name,
        tenant=job.account,
        group=group,
        asked=Resources(cpu=job.cpus, memory=job.memory_mib / _MIB),
        time_limit_s=None if job.time_limit_s is None else job.time_limit_s * speed,
        can=frozenset({"memory", "cpu"}) if job.tasks == 1 else frozenset({"memory"}),
    )


def ask_anew(
    slurm: SlurmCommands, job: WaitingJob, cpu: float | None, memory: float | None, time_limit_s: float | None
) -> None:
    """Change what is not None, all in one step: cores up to whole ones, memory to MiB, time to minutes of the wall.

    Raises:
        SlurmError: it refuses; nothing was changed.
    """
    fields: dict[str, str] = {}
    if cpu is not None:
        cores = str(max(math.ceil(cpu - 1e-9), 1))
        fields |= {"NumCPUs": cores, "CPUsPerTask": cores}
    if memory is not None:
        fields["MinMemoryNode"] = str(max(math.ceil(memory * _MIB - 1e-9), 1))
    if time_limit_s is not None:
        fields["TimeLimit"] = str(max(math.ceil(time_limit_s / 60 - 1e-9), 1))
    slurm.update_job(job.job_id, **fields)


def failed(slurm: SlurmCommands, jobs: Collection[int]) -> Iterator[int]:
    """Of these, which ended otherwise than well; that somebody cancelled one says nothing of it."""
    for job in slurm.of_jobs(sorted(jobs)):
        if is_over(job.state) and job.state not in ("COMPLETED", "CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"):
            yield job.job_id
