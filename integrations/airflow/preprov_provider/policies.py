"""Help for a cluster policy, which touches no DAG.

In `airflow_local_settings.py` (or a plugin of the group `airflow.policy`):

    from preprov_provider.policies import Placement, tell_of_queued

    place = Placement(queues={"batch": "warm"}, requests={"batch": {"cpu": 2, "memory": 4}})

    def task_policy(task):
        place(task)

    def task_instance_mutation_hook(task_instance):
        tell_of_queued(task_instance)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from preprov_provider import listener

DEFAULT_POOL = "default_pool"
_NOT_BEGUN = (None, "scheduled")


@dataclass(frozen=True)
class Placement:
    """Sends tasks to an Airflow pool whose slots follow warm capacity, and states what they ask for.

    Only what a task leaves open is filled in: a pool other than the default one, or an executor config, is its author's
    word.

    :param queues: pattern of queues -> Airflow pool of their tasks.
    :param requests: pattern of queues -> cpu (cores) and memory (GiB) of a task that states none; Airflow's API shows
        them, so that preprov plans by them.
    """

    queues: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __call__(self, task: Any) -> None:
        """Fill in what a task leaves open."""
        pool = _match(self.queues, task.queue)
        if pool is not None and task.pool in (None, "", DEFAULT_POOL):
            task.pool = pool
        asked = _match(self.requests, task.queue)
        if asked and not task.executor_config:
            names = {"cpu": "request_cpu", "memory": "request_memory"}
            wanted = {names[k]: f"{v:g}Gi" if k == "memory" else f"{v:g}" for k, v in asked.items() if k in names}
            task.executor_config = {"KubernetesExecutor": wanted}


def _match(patterns: Mapping[str, Any], queue: str) -> Any:
    return next((v for pattern, v in patterns.items() if fnmatchcase(queue or "", pattern)), None)


@lru_cache(maxsize=10_000)
def _once(dag_id: str, run_id: str) -> list[bool]:
    return [True]


@listener.quietly
def tell_of_queued(task_instance: Any) -> None:
    """Tell preprov of a run as its task instances are made: Airflow has no other hook for a run that is queued.

    Airflow calls the policy at other times too: for a task instance that has no run yet, and wherever one is loaded
    again, be it on a worker that runs it or in a page that shows it.
    """
    if not task_instance.run_id or getattr(task_instance, "state", None) not in _NOT_BEGUN:
        return
    first = _once(task_instance.dag_id, task_instance.run_id)
    if first:
        first.clear()
        listener.tell("queued", task_instance, at=None)
