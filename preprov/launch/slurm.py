"""Tasks as Slurm jobs: submitted to the node they were placed on, found again by their comment."""

import contextlib
import getpass
import math
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from preprov.contracts import Clock, LimitsJobs, TaskReport, WaitingJob
from preprov.launch import slurm_adjust, slurm_waiting
from preprov.launch.slurm_usage import Rates
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds, Usage, task_folder
from preprov.model.errors import ConflictError, NotFoundError, RefusedError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.time import Timescale, epoch, from_epoch
from preprov.model.work import TaskRun
from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import Connect, SlurmCommands, connect
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.records import OUT_OF_MEMORY, SlurmJob
from preprov.slurm.troubles import as_pool_errors

log = structlog.get_logger(__name__)

CLAIM: Final = "preprov:"
"""A job whose comment begins so is a task of ours: the claimant follows."""
_BACK: Final = timedelta(days=1)
_FORGETS_S: Final = 120.0
"""The controller forgets a job that ended MinJobAge ago (300 s unless configured); who looks less often asks sacct."""
_WHOLE_SECONDS: Final = timedelta(seconds=2)
"""Slurm tells whole seconds."""
_Conf: TypeAlias = Path | None
_Samples: TypeAlias = Mapping[int, tuple[Usage, ...]]


class SlurmScheduler:
    """Runs tasks as jobs on nodes of provider "slurm"; sbatch, squeue, sacct, sstat and scancel have to be here.

    A task sees PREPROV_RUN_ID, PREPROV_TASK_ID, PREPROV_INSTANCE, PREPROV_ATTEMPT, PREPROV_NODE_ID and its own
    variables. Its output goes to `logs`, which the nodes have to share with this machine. Cores are rounded up.

    Args:
        pools: as configured, to find a node's cluster and partition.
        clock: instants given to and taken from this object are on it.
        logs: folder of the jobs' output.
        speed: seconds of the clock per wall second.
        connect: gives the commands of a cluster.
        agents: what reaches the machines of a vendor, where limits of running jobs are changed; None = nothing does.
    """

    name = "slurm"
    runs = "job"

    def __init__(
        self,
        pools: Mapping[str, Pool],
        clock: Clock,
        logs: Path,
        *,
        speed: float = 1.0,
        connect: Connect = connect,
        agents: Callable[[str], LimitsJobs | None] = lambda _: None,
    ) -> None:
        self._pools = pools
        self._logs = Path(logs).absolute()
        self._scale = Timescale.between(time.time(), clock.now(), speed)
        self._connect = connect
        self._rates = Rates()
        self._polled: dict[_Conf, float] = {}
        self._checkpoints = slurm_adjust.Checkpoints()
        self._machines = slurm_adjust.Machines(agents)

    # ---- start

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says. Raises ConflictError (retryable) if Slurm gives nothing to the node now."""
        slurm = self._connect(self._conf(node))
        claimant = task.claimant(instance)
        with as_pool_errors(node.node_id):
            found = {n.name: n for n in slurm.nodes()}.get(node.node_id)
            if found is None or found.is_gone or (found.is_going and not found.is_used):
                raise NotFoundError(f"node {node.node_id} is powered down", where=node.pool, hint="observe again")
            if found.is_drained or found.is_down or found.is_going:
                why = found.reason or found.state.lower()
                raise ConflictError(f"takes no work: {why}", where=node.node_id, hint="observe again")
            if self._job_of(slurm, claimant) is None and not self._ran(slurm, claimant):
                slurm.submit(self._options(task, claimant, node), _script(task, instance, node, self._scale.speed))

    def _options(self, task: TaskRun, claimant: str, node: Node) -> list[str]:
        request, out = task.spec.request, self._file(claimant)
        out.parent.mkdir(parents=True, exist_ok=True)
        asked = slurm_adjust.requests(request)
        options = [
            f"--nodelist={node.node_id}",
            f"--partition={self._group_options(node).get('partition', node.pool)}",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={asked['CPUsPerTask']}",
            f"--mem={asked['MinMemoryNode']}M",
            f"--job-name={task.task_id}",
            f"--comment={CLAIM}{claimant}",
            f"--output={str(out).replace('%', '%%')}",
            "--no-requeue",
            "--export=NONE",
            "--chdir=/",
        ]
        return [*options, f"--gres=gpu:{math.ceil(request.gpu)}"] if request.gpu > 0 else options

    def _job_of(self, slurm: SlurmCommands, claimant: str) -> SlurmJob | None:
        return next((j for j in slurm.jobs() if j.comment == f"{CLAIM}{claimant}"), None)

    def _ran(self, slurm: SlurmCommands, claimant: str) -> bool:
        """True if the accounting knows it: the controller has forgotten it already."""
        known = self._remembered(slurm, time.time() - _BACK.total_seconds())
        return any(j.comment == f"{CLAIM}{claimant}" for j in known)

    # ---- poll

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says; Slurm uses names again, and what ran on an earlier machine of a name does not count."""
        out: list[TaskReport] = []
        for conf, mine in self._by_cluster(nodes).items():
            slurm, now = self._connect(conf), time.time()
            with as_pool_errors(", ".join(sorted(mine)[:5])):
                jobs = [j for j in slurm.jobs() if j.comment.startswith(CLAIM)]
                usage = self._rates.since_last(slurm, jobs, now)
                reports = {r.claimant: r for r in self._forgotten(slurm, conf, mine, now)}
            limits = self._on_machines(jobs, mine)
            told = (self._report(j, mine, usage, limits.get(j.job_id)) for j in jobs)
            reports.update({r.claimant: r for r in told if r is not None})
            out.extend(reports.values())
            self._polled[conf] = now
        return tuple(out)

    def _node_of(self, job: SlurmJob | AccountedJob, mine: Mapping[str, Node]) -> str | None:
        """The node among ours that it runs or ran on, or is to run on."""
        wanted = job.nodes or (job.wanted_nodes if isinstance(job, SlurmJob) else "")
        name = next((n for n in _hosts(wanted) if n in mine), None)
        if name is None or job.submitted_at is None:
            return None
        after = self._scale.instant(job.submitted_at) >= mine[name].created_at - _WHOLE_SECONDS * self._scale.speed
        return name if after else None

    def _on_machines(self, jobs: Sequence[SlurmJob], mine: Mapping[str, Node]) -> Mapping[int, Bounds]:
        """Limits of running jobs, of pools that change them; by job."""
        out: dict[int, Bounds] = {}
        for name in {n for j in jobs if j.runs for n in _hosts(j.nodes) if n in mine}:
            pool = self._pools.get(mine[name].pool)
            machine = self._machine(mine[name]) if pool is not None and pool.adjusting is not None else None
            out |= machine.bounds() if machine is not None else {}
        return out

    def _machine(self, node: Node) -> slurm_adjust.Machine | None:
        return self._machines.behind(node, str(self._group_options(node).get("vendor", "")))

    def _report(
        self, job: SlurmJob, mine: Mapping[str, Node], usage: _Samples, limits: Bounds | None
    ) -> TaskReport | None:
        node = self._node_of(job, mine)
        if node is None:
            return None
        started = job.started_at if job.started_at is not None else job.submitted_at or 0.0
        ended = job.ended_at if job.is_over else None
        return TaskReport(
            claimant=job.comment.removeprefix(CLAIM),
            node_id=node,
            started_at=self._scale.instant(min(started, ended) if ended is not None else started),
            ended_at=None if ended is None else self._scale.instant(ended),
            exit_code=job.exit_code if ended is not None else None,
            usage=tuple(self._shown(u) for u in usage.get(job.job_id, ())),
            bounds=None if ended is not None or not job.runs else self._limits(job, limits or Bounds()),
            out_of_memory=job.state == OUT_OF_MEMORY,
        )

    def _limits(self, job: SlurmJob, there: Bounds) -> Bounds:
        limit = job.time_limit_s
        return replace(there, time_limit_s=None if limit is None else limit * self._scale.speed)

    def _forgotten(
        self, slurm: SlurmCommands, conf: _Conf, mine: Mapping[str, Node], now: float
    ) -> Iterator[TaskReport]:
        """What the controller has forgotten since the last poll; nothing where there is no accounting."""
        last = self._polled.get(conf)
        if last is not None and now - last < _FORGETS_S:
            return
        for job in self._remembered(slurm, last if last is not None else now - _BACK.total_seconds()):
            node = self._node_of(job, mine)
            if node is not None and job.is_over and job.comment.startswith(CLAIM) and job.ended_at is not None:
                started = min(job.started_at or job.ended_at, job.ended_at)
                yield TaskReport(
                    claimant=job.comment.removeprefix(CLAIM),
                    node_id=node,
                    started_at=self._scale.instant(started),
                    ended_at=self._scale.instant(job.ended_at),
                    exit_code=job.exit_code,
                    out_of_memory=job.state == OUT_OF_MEMORY,
                )

    def _remembered(self, slurm: SlurmCommands, since: float) -> Sequence[AccountedJob]:
        try:
            return slurm.accounting(from_epoch(since), from_epoch(time.time() + 1), user=getpass.getuser())
        except SlurmError as e:
            log.info("no accounting", said=e.said)
            return ()

    def _shown(self, u: Usage) -> Usage:
        return replace(u, at=epoch(self._scale.instant(u.at)))

    # ---- end, output

    def cancel(self, claimant: str, node: Node) -> None:
        """As the contract says."""
        slurm = self._connect(self._conf(node))
        with as_pool_errors(node.node_id):
            job = self._job_of(slurm, claimant)
            if job is not None and not job.is_over:
                slurm.cancel(job.job_id)

    # ---- while it waits or runs

    def adjustable(self, node: Node) -> Adjustable:
        """As the contract says."""
        return slurm_adjust.CAN if self._machine(node) is None else slurm_adjust.CAN_ON_MACHINES

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """As the contract says: of a pending job what it asks for, which stands; of one that runs, its cgroups."""
        with as_pool_errors(node.node_id):
            slurm = self._connect(self._conf(node))
            job, machine = self._job_of(slurm, claimant), self._machine(node)
            return slurm_adjust.resize(slurm, job, amount, node, machine, lease_s)

    def lift(self, claimant: str, node: Node) -> None:
        """As the contract says: of one that runs, as Slurm had it; what a job asks for is left as it is."""
        machine = self._machine(node)
        if machine is None:
            return
        with as_pool_errors(node.node_id):
            job = self._job_of(self._connect(self._conf(node)), claimant)
        if job is not None and job.runs:
            with contextlib.suppress(RefusedError, NotFoundError):
                machine.lift(job)

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """As the contract says; the end comes with the first repetition after the grace."""
        with as_pool_errors(node.node_id):
            slurm = self._connect(self._conf(node))
            wall_s = grace_s / self._scale.speed
            self._checkpoints.send(slurm, self._job_of(slurm, claimant), signal, wall_s, node)

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """As the contract says. Slurm lets its administrators do that; anybody else is refused."""
        with as_pool_errors(node.node_id):
            slurm = self._connect(self._conf(node))
            slurm_adjust.extend(slurm, self._job_of(slurm, claimant), seconds / self._scale.speed, node)

    # ---- what people submitted, while it waits

    def waiting(self, pool: Pool) -> tuple[WaitingJob, ...]:
        """As the contract says: plain jobs of the partitions of its groups."""
        out: list[WaitingJob] = []
        for group in (g for g in pool.groups if g.provider == self.name):
            partition = str(group.options.get("partition", pool.name))
            with as_pool_errors(pool.name):
                slurm = self._connect(_conf_of(group.options))
                out += slurm_waiting.waiting(slurm, group.name, partition, CLAIM, self._scale.speed)
        return tuple({j.job_id: j for j in out}.values())

    def ask_anew(
        self, pool: Pool, job: WaitingJob, cpu: float | None, memory: float | None, time_limit_s: float | None
    ) -> None:
        """As the contract says. Slurm lets its administrators raise a time limit; anybody else is refused."""
        limit = None if time_limit_s is None else time_limit_s / self._scale.speed
        with as_pool_errors(job.claimant):
            slurm = self._connect(_conf_of(pool.group(job.group).options))
            slurm_waiting.ask_anew(slurm, job, cpu, memory, limit)

    def failed(self, pool: Pool, jobs: Collection[int]) -> frozenset[int]:
        """As the contract says, by the accounting; none where there is no accounting."""
        confs = {_conf_of(g.options) for g in pool.groups if g.provider == self.name}
        with as_pool_errors(pool.name):
            return frozenset(j for conf in confs for j in slurm_waiting.failed(self._connect(conf), jobs))

    def logs(self, claimant: str) -> Iterator[str]:
        """As the contract says."""
        file = self._file(claimant)
        if file.exists():
            with file.open(errors="replace") as f:
                for line in f:
                    yield line.rstrip("\n")

    # ---- which

    def _file(self, claimant: str) -> Path:
        return self._logs / f"{task_folder(claimant)}.log"

    def _group_options(self, node: Node) -> Mapping[str, object]:
        pool = self._pools.get(node.pool)
        return pool.group(node.group).options if pool is not None else {}

    def _conf(self, node: Node) -> _Conf:
        return _conf_of(self._group_options(node))

    def _by_cluster(self, nodes: Sequence[Node]) -> dict[_Conf, dict[str, Node]]:
        out: dict[_Conf, dict[str, Node]] = {}
        for node in nodes:
            out.setdefault(self._conf(node), {})[node.node_id] = node
        return out


def _conf_of(options: Mapping[str, object]) -> _Conf:
    conf = options.get("conf")
    return Path(str(conf)) if conf else None


def _hosts(expression: str) -> tuple[str, ...]:
    try:
        return expand(expression)
    except SlurmError:
        return ()


def _script(task: TaskRun, instance: int, node: Node, speed: float) -> str:
    """A shell script that becomes the task's command; one without a command sleeps for its runtime hint."""
    env = {
        **task.spec.env,
        "PREPROV_RUN_ID": task.run_id,
        "PREPROV_TASK_ID": task.task_id,
        "PREPROV_INSTANCE": str(instance),
        "PREPROV_ATTEMPT": str(task.attempt),
        "PREPROV_NODE_ID": node.node_id,
    }
    argv = task.spec.command or ("sleep", f"{(task.spec.runtime_hint_s or 0.0) / speed:.3f}")
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in env.items())
    return f"#!/bin/sh\n{exports}exec {shlex.join(argv)}\n"
