"""What tasks should ask for, as text to put where they are declared: preprov, Airflow, Prefect, Slurm, Kubernetes."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from preprov.profiles.requests import Need

_MIB: Final = 1024


def patch(found: Sequence[Need], target: str) -> str:
    """The requests of tasks of which something can be said, by DAG; "" if there are none.

    Args:
        found: what each needs. target: one of TARGETS.
    """
    said = sorted((n for n in found if n.said), key=lambda n: (n.dag, n.task))
    return "\n".join(TARGETS[target](n) for n in said)


def _preprov(n: Need) -> str:
    amounts = [*_if_known("cpu", n.ask_cpu), f"memory = {n.ask_memory:g}"]
    return f"# DAG {_one_line(n.dag)}\n[[task]]\nid = {json.dumps(n.task)}\nrequests = {{ {', '.join(amounts)} }}\n"


def _if_known(name: str, amount: float) -> list[str]:
    return [f"{name} = {amount:g}"] if math.isfinite(amount) else []


def _airflow(n: Need) -> str:
    """For the KubernetesExecutor; `k8s` is kubernetes.client.models, as Airflow's own documentation has it."""
    requests = json.dumps(_quantities(n))
    limits = json.dumps({"memory": _quantities(n)["memory"]})
    return (
        f"# DAG {_one_line(n.dag)}, task {_one_line(n.task)}\n"
        'executor_config={"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base",\n'
        f"    resources=k8s.V1ResourceRequirements(requests={requests}, limits={limits}))]))}}\n"
    )


def _prefect(n: Need) -> str:
    """For a work pool of type kubernetes, whose base job template has these variables."""
    lines = [f"# flow {_one_line(n.dag)}", f"- name: {json.dumps(n.task)}", "  work_pool:", "    job_variables:"]
    lines += [f"      {name}: {json.dumps(amount)}" for name, amount in _quantities(n).items()]
    return "\n".join(lines) + "\n"


def _slurm(n: Need) -> str:
    """Whole cores: Slurm gives no part of one."""
    lines = [f"# {_one_line(n.dag)} {_one_line(n.task)}", f"#SBATCH --mem={_mib(n.ask_memory)}M"]
    if math.isfinite(n.ask_cpu):
        lines.append(f"#SBATCH --cpus-per-task={math.ceil(n.ask_cpu - 1e-9)}")
    return "\n".join(lines) + "\n"


def _kubernetes(n: Need) -> str:
    """A strategic merge patch of a Job; memory is limited, CPU is not, for too little of it only slows down."""
    quantities = _quantities(n)
    requests = "".join(f"            {name}: {json.dumps(amount)}\n" for name, amount in quantities.items())
    return (
        f"# {_one_line(n.dag)} {_one_line(n.task)}\n"
        "spec:\n  template:\n    spec:\n      containers:\n"
        f"      - name: {json.dumps(n.task)}\n        resources:\n          requests:\n{requests}"
        f"          limits:\n            memory: {json.dumps(quantities['memory'])}\n---"
    )


def _quantities(n: Need) -> dict[str, str]:
    """As Kubernetes writes them."""
    cpu = {"cpu": f"{round(n.ask_cpu * 1000)}m"} if math.isfinite(n.ask_cpu) else {}
    return {**cpu, "memory": f"{_mib(n.ask_memory)}Mi"}


def _mib(gib: float) -> int:
    return math.ceil(gib * _MIB - 1e-9)


def _one_line(text: str) -> str:
    """A name inside a comment cannot end the comment."""
    return " ".join(text.split())


TARGETS: Final[Mapping[str, Callable[[Need], str]]] = {
    "preprov": _preprov,
    "airflow": _airflow,
    "prefect": _prefect,
    "slurm": _slurm,
    "kubernetes": _kubernetes,
}
