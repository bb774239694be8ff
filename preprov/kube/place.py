"""Where in which cluster a group's room and tasks are: what both read of its options."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from preprov.kube.labels import MANAGER
from preprov.model.errors import ConfigError

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TOLERATION: Final = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})


@dataclass(frozen=True)
class Place:
    """One place; as a key, too.

    Attributes:
        kubeconfig, context: where the cluster is; None and "" = as `kubectl` finds it, or from within.
        namespace: of everything that is made. borne: the tolerations, of the taints that keep other work off the nodes.
        gpu_resource: name under which the cluster counts GPUs.
        tasks: preprov starts tasks there. task_image: what they run in, if they do not say.
    """

    kubeconfig: Path | None = None
    context: str = ""
    namespace: str = MANAGER
    borne: tuple[tuple[tuple[str, Any], ...], ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    tasks: bool = False
    task_image: str = ""

    @property
    def tolerations(self) -> tuple[dict[str, Any], ...]:
        """As they are sent."""
        return tuple(dict(t) for t in self.borne)


def place_of(options: Mapping[str, Any], where: str) -> Place:
    """Of a group's options.

    Raises:
        ConfigError: one of them makes no sense.
    """
    usual = Place()
    file = text(options, "kubeconfig", "", where) if options.get("kubeconfig") else ""
    return Place(
        kubeconfig=Path(file).expanduser() if file else None,
        context=text(options, "context", usual.context, where),
        namespace=object_name(options, "namespace", usual.namespace, where),
        borne=_borne(options.get("tolerations", ()), where),
        gpu_resource=text(options, "gpu_resource", usual.gpu_resource, where),
        tasks=flag(options, "tasks", where),
        task_image=text(options, "task_image", usual.task_image, where),
    )


def flag(options: Mapping[str, Any], key: str, where: str) -> bool:
    """An option that is true or false; left out, false."""
    value = options.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is true or false, not {value!r}", where=where)
    return value


def text(options: Mapping[str, Any], key: str, usual: str, where: str) -> str:
    """An option that is a string."""
    value = options.get(key, usual)
    if not isinstance(value, str):
        raise ConfigError(f"{key} is a string, not {value!r}", where=where)
    return value


def object_name(options: Mapping[str, Any], key: str, usual: str, where: str) -> str:
    """An option that is the name of an object."""
    value = text(options, key, usual, where)
    if not _NAME.fullmatch(value):
        hint = "lower-case letters, digits and dashes, 63 at the most"
        raise ConfigError(f"{key} = {value!r} is no name in Kubernetes", where=where, hint=hint)
    return value


def _borne(value: object, where: str) -> tuple[tuple[tuple[str, Any], ...], ...]:
    hint = 'such as tolerations = [{ key = "batch", operator = "Exists", effect = "NoSchedule" }]'
    good = isinstance(value, list | tuple) and all(
        isinstance(t, dict) and t and not t.keys() - _TOLERATION for t in value
    )
    if not good:
        what = f"tolerations is a list of tables of {', '.join(sorted(_TOLERATION))}"
        raise ConfigError(what, where=where, hint=hint)
    return tuple(tuple(t.items()) for t in value)  # type: ignore[attr-defined]
