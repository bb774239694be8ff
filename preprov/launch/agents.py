"""Hand warm nodes to tasks: the command goes to the node's agent, which runs it under a supervisor of its own.

How an agent is reached is another module's: `local` and `remote`.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from preprov.contracts import Clock, TaskReport
from preprov.model.adjusting import Adjustable
from preprov.model.agent import Bounds, TaskStatus, Usage, bounds_of, task_status
from preprov.model.errors import ConflictError, NotFoundError, PoolError, RefusedError
from preprov.model.nodes import Node
from preprov.model.resources import Resources
from preprov.model.time import Timescale, epoch
from preprov.model.work import TaskRun

_AT_ONCE: Final = 16
_STARTS_AT_ONCE: Final = 8
"""Fewer than the connections that the store keeps: each start is written there."""


class AgentScheduler:
    """Runs commands on nodes through their agents.

    A task sees PREPROV_RUN_ID, PREPROV_TASK_ID, PREPROV_INSTANCE, PREPROV_ATTEMPT, PREPROV_NODE_ID, PREPROV_NODE_DIR,
    and where its images and datasets are: PREPROV_IMAGES and PREPROV_DATASETS (JSON, uri or key -> path), PREPROV_IMAGE
    and PREPROV_DATASET (path of the first). What is not on the node yet is put there, and checked, before it begins.
    On a node whose GPUs are known it has as many as it asks for, a part of one being one, to itself, and sees no others
    (CUDA_VISIBLE_DEVICES). A task without a command sleeps for its runtime hint.

    Args:
        clock: instants given to and taken from this object are on it.
        speed: seconds of the clock per wall second.
    """

    name = ""
    runs = "process"
    at_once = _STARTS_AT_ONCE

    def __init__(self, clock: Clock, *, speed: float = 1.0) -> None:
        self._scale = Timescale.between(time.time(), clock.now(), speed)
        self._cursors: dict[str, int] = {}

    def _ask(self, node: Node, verb: str, **arguments: Any) -> dict[str, Any] | None:
        """The agent's answer; None if it did not answer.

        Raises:
            NotFoundError: the node is gone.
        """
        raise NotImplementedError

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says. Raises ConflictError (retryable) if the node is not ready or does not answer."""
        reply = self._ask(
            node,
            "start",
            claimant=task.claimant(instance),
            argv=self._argv(task),
            env=_env(task, instance, node),
            wanted=_wanted(task),
        )
        if reply is None:
            raise ConflictError("its agent did not answer", where=node.node_id, hint="observe again")
        if not reply.get("ok"):
            if reply.get("error") == "bad-request":
                raise PoolError(f"the node did not understand: {reply.get('detail')}", where=node.node_id)
            raise ConflictError(str(reply.get("detail")), where=node.node_id, hint="observe again")

    def _argv(self, task: TaskRun) -> list[str]:
        if task.spec.command:
            return list(task.spec.command)
        return ["sleep", f"{(task.spec.runtime_hint_s or 0.0) / self._scale.speed:.3f}"]

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says; what was reported is kept by the node until the next poll shows that it arrived."""
        if not nodes:
            return ()
        with ThreadPoolExecutor(min(len(nodes), _AT_ONCE)) as pool:
            replies = list(pool.map(self._fetch, nodes))
        out: list[TaskReport] = []
        for node, reply in zip(nodes, replies, strict=True):
            if reply is not None and reply.get("ok"):
                self._cursors[node.node_id] = int(reply["seq"])
                out.extend(self._report(node, task_status(t)) for t in reply["tasks"])
        return tuple(out)

    def _fetch(self, node: Node) -> dict[str, Any] | None:
        try:
            return self._ask(node, "tasks", since=self._cursors.get(node.node_id))
        except NotFoundError:
            return None

    def _report(self, node: Node, status: TaskStatus) -> TaskReport:
        return TaskReport(
            claimant=status.claimant,
            node_id=node.node_id,
            started_at=self._scale.instant(status.started_at),
            ended_at=self._scale.instant(status.ended_at) if status.ended_at is not None else None,
            exit_code=status.exit_code,
            usage=tuple(self._usage(u) for u in status.usage),
            bounds=self._bounds(status.bounds),
            out_of_memory=status.out_of_memory,
        )

    def _bounds(self, b: Bounds | None) -> Bounds | None:
        return b if b is None else replace(b, throttled_s=b.throttled_s * self._scale.speed)

    def _usage(self, u: Usage) -> Usage:
        return replace(u, at=epoch(self._scale.instant(u.at)))

    def cancel(self, claimant: str, node: Node) -> None:
        """As the contract says: asked to end, and after five seconds made to."""
        try:
            reply = self._ask(node, "cancel", claimant=claimant)
        except NotFoundError:
            return
        if reply is None:
            raise ConflictError("its agent did not answer", where=node.node_id, hint="try again")

    # ---- while it runs

    def adjustable(self, node: Node) -> Adjustable:
        """As the contract says; a node without cgroups says of its tasks that nothing of them can be changed."""
        why_not = "a node limits cores and memory; it takes no devices, disk or network from a task that runs"
        return Adjustable(frozenset({"cpu", "memory"}), checkpoint=True, why_not=why_not)

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """As the contract says: the cgroups of the task, within those of the node."""
        asked = {"cpu": amount.cpu or None, "memory": amount.memory or None}  # what is not asked for is not limited
        wanted = {**asked, "lease_s": lease_s / self._scale.speed}
        told = self._told(claimant, node, "limit", **wanted)["bounds"]
        in_force = {"cpu": told["cpu"] or amount.cpu, "memory": told["memory"] or amount.memory}
        return Resources.of({**amount.as_dict(), **in_force})

    def lift(self, claimant: str, node: Node) -> None:
        """As the contract says."""
        try:
            self._told(claimant, node, "limit")
        except (NotFoundError, RefusedError):
            return

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """As the contract says: the signal goes to the task's own process, the end to all of them."""
        self._told(claimant, node, "checkpoint", number=signal, grace_s=grace_s / self._scale.speed)

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """Refused: no time limit is kept here."""
        raise RefusedError(
            "a node keeps no time limit of a task", where=node.node_id, hint="it runs for as long as it takes"
        )

    # ---- jobs of a cluster on its nodes

    def job_bounds(self, machine: Node) -> Mapping[int, Bounds]:
        """As the contract says; nothing of a machine that does not answer, or whose agent is older."""
        try:
            reply = self._ask(machine, "slurm-jobs")
        except NotFoundError:
            return {}
        jobs = reply["jobs"] if reply is not None and reply.get("ok") else {}
        found = {int(job): self._bounds(bounds_of(told)) for job, told in jobs.items() if job.isdigit()}
        return {job: b for job, b in found.items() if b is not None}

    def limit_job(self, job: int, machine: Node, amount: Resources | None, lease_s: float) -> Bounds:
        """As the contract says."""
        asked = {"cpu": amount.cpu or None, "memory": amount.memory or None} if amount is not None else {}
        wanted = {"job": str(job), "lease_s": lease_s / self._scale.speed, **asked}
        return bounds_of(self._agreed(machine, self._ask(machine, "slurm-limit", **wanted))["bounds"])

    def _told(self, claimant: str, node: Node, verb: str, **arguments: Any) -> dict[str, Any]:
        return self._agreed(node, self._ask(node, verb, claimant=claimant, **arguments))

    @staticmethod
    def _agreed(node: Node, reply: dict[str, Any] | None) -> dict[str, Any]:
        if reply is None:
            raise ConflictError("its agent did not answer", where=node.node_id, hint="try again")
        if reply.get("ok"):
            return reply
        said = str(reply.get("detail"))
        if reply.get("error") == "absent":
            raise NotFoundError(said, where=node.node_id)
        if reply.get("error") in ("cannot", "unknown-verb"):
            raise RefusedError(said, where=node.node_id, hint="give the agent write access to cgroups")
        raise ConflictError(said, where=node.node_id, hint="try again")


def _env(task: TaskRun, instance: int, node: Node) -> dict[str, str]:
    return {
        **task.spec.env,
        "PREPROV_RUN_ID": task.run_id,
        "PREPROV_TASK_ID": task.task_id,
        "PREPROV_INSTANCE": str(instance),
        "PREPROV_ATTEMPT": str(task.attempt),
        "PREPROV_NODE_ID": node.node_id,
    }


def _wanted(task: TaskRun) -> dict[str, Any]:
    """What the task needs on the disk, named as the node's preload names it, and how many devices to itself."""
    return {
        "images": [{"key": i.digest or i.uri, "uri": _absolute(i.uri), "digest": i.digest} for i in task.spec.images],
        "datasets": [{"key": d.key, "uri": _absolute(d.uri), "sha256": d.sha256} for d in task.spec.datasets],
        "gpu": task.spec.request.gpu,
    }


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())
