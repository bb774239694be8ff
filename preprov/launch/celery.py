"""Celery workers of an Airflow, one on each warm node: as many tasks at once as there is room for.

There is no limit to be set: Celery starts what its workers take. Airflow itself says which tasks each of them has in
hand, under the name of the node.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from preprov.contracts import PlaceSeen, Service
from preprov.model.errors import ConflictError, PoolError, SourceError
from preprov.model.nodes import Node
from preprov.model.resources import ZERO
from preprov.model.work import State, TaskRun, TaskSpec

_HOSTNAME: Final = "preprov_provider.hostnames.node_name"
"""By it Airflow knows a worker under the id of its node, which the agent puts into the environment."""
_LEAVE: Final = "leave"


class CeleryWorkers:
    """The workers of one Airflow on one pool.

    Args:
        service: what is to be done for it.
        running: node -> tasks that run there now, as Airflow tells it; raises SourceError.
        command: of `preprov_provider.celery`, without options. queues: those workers take tasks of; empty = the usual.
        env: variables they get. options: further ones of `airflow celery worker`.
    """

    def __init__(
        self,
        service: Service,
        running: Callable[[], Mapping[str, tuple[str, ...]]],
        command: tuple[str, ...],
        queues: tuple[str, ...] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        options: tuple[str, ...] = (),
    ) -> None:
        self.service = service
        self._running, self._command, self._queues = running, command, queues
        self._env, self._options = env, options

    def look(self) -> PlaceSeen:
        """As the contract says: a request or a few."""
        try:
            return PlaceSeen({}, {}, self._running())
        except SourceError as e:
            raise (ConflictError if e.retryable else PoolError)(e.what, where=e.where, hint=e.hint) from e

    def write(self, changes: Mapping[str, object]) -> None:
        """As the contract says; there is nothing that could be set."""
        if changes:
            raise PoolError(
                f"Celery has no setting {', '.join(sorted(changes))}", where=f"[[serve]] {self.service.name}"
            )

    def worker_name(self, node_id: str, serial: str) -> str:
        """As the contract says: to Airflow a worker is the host it is on."""
        return node_id

    def worker(self, node: Node, serial: str, slots: int) -> TaskRun:
        """As the contract says. The broker's address is not handed to nodes: their image or profile brings it."""
        words = [*self._command, "start", "--name", self._name(node, serial), "--concurrency", str(slots)]
        words += ["--queues", ",".join(self._queues)] if self._queues else []
        words += ["--", *self._options] if self._options else []
        return self._task(node, serial, "worker", words)

    def farewell(self, node: Node, serial: str) -> TaskRun:
        """As the contract says."""
        return self._task(node, serial, _LEAVE, [*self._command, _LEAVE, "--name", self._name(node, serial)])

    def _name(self, node: Node, serial: str) -> str:
        """In Celery; another at each waking, so that one that is just leaving is not mistaken for the next."""
        return re.sub(r"[^A-Za-z0-9_.-]", "-", f"preprov-{self.service.name}-{node.node_id}-{serial}")

    def _task(self, node: Node, serial: str, task_id: str, words: list[str]) -> TaskRun:
        env = {"AIRFLOW__CORE__HOSTNAME_CALLABLE": _HOSTNAME, "PREPROV_POOL": node.pool, **self._env}
        spec = TaskSpec(task_id, command=tuple(words), request=ZERO, env=MappingProxyType(env))
        run_id = f"preprov:serve:{self.service.name}:{node.node_id}:{serial}"
        return TaskRun(run_id, task_id, node.pool, spec, "", State.READY)
