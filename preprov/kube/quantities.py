"""What a pod asks for, from what Kubernetes calls quantities, and the images that it needs."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from preprov.model.quantity import quantity

_GPUS: Final = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe")
_NAN: Final = float("nan")


def requests(pod: Mapping[str, Any]) -> tuple[float, float, float]:
    """(cores, GiB, GPUs) that the scheduler counts for a pod; NaN cores or GiB where no container says any.

    Containers and sidecars together, or what the largest step of initialisation takes, whichever is more; and the
    runtime's overhead (kubernetes.io/docs/concepts/workloads/pods/init-containers, resource sharing).

    Args:
        pod: its `spec`.
    """
    init = [c for c in pod.get("initContainers") or () if isinstance(c, Mapping)]
    beside = [c for c in init if c.get("restartPolicy") == "Always"]
    mains = [*(c for c in pod.get("containers") or () if isinstance(c, Mapping)), *beside]
    steps = [c for c in init if c.get("restartPolicy") != "Always"]
    overhead = pod.get("overhead") if isinstance(pod.get("overhead"), Mapping) else {}

    def amount(*names: str) -> float:
        together = _sum(_of(c, names) for c in mains)
        largest = [v for v in (_of(c, names) for c in steps) if v == v]
        base = max([v for v in (together, *largest) if v == v], default=_NAN)
        extra = _sum(quantity((overhead or {})[n]) for n in names if n in (overhead or {}))
        return base + (extra if extra == extra else 0.0)

    gpus = amount(*_GPUS)
    return amount("cpu"), amount("memory") / 2.0**30, gpus if gpus == gpus else 0.0


def images(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Of all its containers, those of initialisation too, each once; of a pod's `spec`."""
    containers = (c for kind in ("initContainers", "containers") for c in pod.get(kind) or ())
    named = (c.get("image") for c in containers if isinstance(c, Mapping))
    return tuple(dict.fromkeys(str(name) for name in named if name))


def _of(container: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """Requests, else limits, as the API server defaults them."""
    told = container.get("resources")
    asked = {**((told or {}).get("limits") or {}), **((told or {}).get("requests") or {})}
    return _sum(quantity(asked[n]) for n in names if n in asked)


def _sum(values: Iterable[float]) -> float:
    known = [v for v in values if v == v and v >= 0]
    return sum(known) if known else _NAN
