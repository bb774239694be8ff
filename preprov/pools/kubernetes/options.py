"""What a group of provider "kubernetes" says in its `options`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from preprov.kube.place import Place, flag, object_name, place_of, text
from preprov.model.errors import ConfigError
from preprov.model.pools import Group, Pool

PROVIDER: Final = "kubernetes"
_KNOWN: Final = (
    "kubeconfig",
    "context",
    "namespace",
    "node_selector",
    "tolerations",
    "priority_class",
    "image",
    "instance_type_label",
    "gpu_resource",
    "way",
    "object",
    "vendor",
    "moves",
    "move_timeout_s",
    "tasks",
    "task_image",
)
PLACEHOLDER, BUFFER, NODE_POOL, JOIN = "placeholder", "capacity_buffer", "node_pool", "node_join"
WAYS: Final = (PLACEHOLDER, BUFFER, NODE_POOL, JOIN)
KARPENTER: Final = "karpenter.sh/nodepool"
"""Label of the nodes of a NodePool."""
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True)
class KubernetesGroup:
    """One group.

    Attributes:
        pool, group: as configured.
        place: where that is. node_selector: labels of the nodes that the pool's work runs on.
        priority_class: of the pods that hold room: everything else has to be above it.
        image: that they run; it has to sleep until it is ended.
        instance_type_label: label by which an offering's type is asked for; "" = it is not.
        way: by what it has its room. object: the CapacityBuffer or the NodePool whose count is written; "" = none is.
        vendor: the provider whose nodes join. vendor_options: its own options.
        moves: pods of services are evicted from a node that is drained. move_timeout_s: for so long it is tried.
    """

    pool: Pool
    group: Group
    place: Place
    node_selector: Mapping[str, str]
    priority_class: str
    image: str
    instance_type_label: str
    way: str = PLACEHOLDER
    object: str = ""
    vendor: str = ""
    vendor_options: Mapping[str, Any] = field(default_factory=dict)
    moves: bool = False
    move_timeout_s: float = 600.0

    @property
    def namespace(self) -> str:
        """Of everything that is made."""
        return self.place.namespace

    @property
    def where(self) -> str:
        """For errors."""
        return f"{self.pool.name}/{self.group.name}"

    @property
    def selector(self) -> str:
        """The labels of its nodes, as the API server wants them."""
        return ",".join(f"{k}={v}" for k, v in sorted(self.node_selector.items()))


def kubernetes_groups(pool: Pool) -> tuple[KubernetesGroup, ...]:
    """All groups of the pool whose room a cluster has."""
    return tuple(kubernetes_group(pool, g.name) for g in pool.groups if g.provider == PROVIDER)


def kubernetes_group(pool: Pool, name: str) -> KubernetesGroup:
    """One group.

    Raises:
        ConfigError: an option is missing, unknown, or makes no sense.
    """
    group = pool.group(name)
    options, where = dict(group.options), f"{pool.name}/{name} options"
    way = _way(options, where)
    unknown = sorted(options.keys() - set(_KNOWN))
    if unknown and way != JOIN:
        raise ConfigError(f"there is no option {unknown[0]!r}", where=where, hint=f"one of {', '.join(_KNOWN)}")
    object_ = _object(options, way, where)
    usual = {KARPENTER: object_} if way == NODE_POOL else None
    selector = _labels(options.get("node_selector", usual), where)
    return KubernetesGroup(
        pool=pool,
        group=group,
        place=place_of(options, where),
        node_selector=selector,
        priority_class=object_name(options, "priority_class", "preprov-placeholder", where),
        image=text(options, "image", "registry.k8s.io/pause:3.10", where),
        instance_type_label=text(options, "instance_type_label", "node.kubernetes.io/instance-type", where),
        way=way,
        object=object_,
        vendor=_vendor(options, way, where),
        vendor_options={k: options[k] for k in unknown},
        moves=flag(options, "moves", where),
        move_timeout_s=_seconds(options, "move_timeout_s", 600.0, where),
    )


def _way(options: Mapping[str, Any], where: str) -> str:
    way = text(options, "way", PLACEHOLDER, where)
    if way not in WAYS:
        raise ConfigError(f"there is no way {way!r}", where=where, hint=f"one of {', '.join(WAYS)}")
    return way


def _object(options: Mapping[str, Any], way: str, where: str) -> str:
    counted = way in (BUFFER, NODE_POOL)
    if counted != ("object" in options):
        kind = "NodePool" if way == NODE_POOL else "CapacityBuffer"
        what = f"way {way} needs `object`" if counted else f"way {way} writes no count: `object` says nothing"
        raise ConfigError(what, where=where, hint=f"the name of the {kind} whose replicas are written")
    return object_name(options, "object", "", where) if counted else ""


def _vendor(options: Mapping[str, Any], way: str, where: str) -> str:
    vendor = text(options, "vendor", "", where)
    if (way == JOIN) != bool(vendor) or vendor == PROVIDER:
        hint = 'the provider that makes the machines, such as vendor = "aws", with way = "node_join" and no other'
        raise ConfigError(f"vendor = {vendor!r} with way {way}", where=where, hint=hint)
    return vendor


def _seconds(options: Mapping[str, Any], key: str, usual: float, where: str) -> float:
    value = options.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"{key} is a number of seconds, not {value!r}", where=where)
    return float(value)


def _labels(value: object, where: str) -> Mapping[str, str]:
    hint = 'such as node_selector = { "preprov.io/pool" = "batch" }'
    if not isinstance(value, dict) or not value:
        what = "node_selector has to name the nodes that are the pool's: idle ones are cordoned when they are drained"
        raise ConfigError(what, where=where, hint=hint)
    for k, v in value.items():
        good = isinstance(v, str) and _LABEL_KEY.fullmatch(str(k)) and _LABEL_VALUE.fullmatch(v)
        if not good:
            raise ConfigError(f"node_selector: {k} = {v!r} is no label in Kubernetes", where=where, hint=hint)
    return dict(value)
