"""Whether a scale set is fit for use, and who else writes it; reads only."""

from collections.abc import Iterator
from typing import Final

from preprov.contracts import Finding
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.pools.azure.clients import Json
from preprov.pools.azure.group import ScaleSet

_WRITERS: Final = {
    "aks-managed-poolName": "Kubernetes node pool",
    "cluster-autoscaler-enabled": "cluster-autoscaler",
    "k8s.io_cluster-autoscaler_enabled": "cluster-autoscaler",
}
"""Tags by which others show that a scale set's size is theirs."""
_NEARLY: Final = 0.9


def examine(group: ScaleSet) -> tuple[Finding, ...]:
    """Credentials and rights by trying, the scale set's mode, hibernation, other writers, the quota."""
    what = f"group {group.where}"
    try:
        settings = group.settings()
    except PoolError as e:
        return (Finding(what, "bad", e.what, e.hint),)
    out = [Finding(what, "ok", f"{group.options.scale_set} has {settings['sku']['capacity']} machines")]
    out.extend(_shape(group, settings))
    for name in other_writers(group):
        out.append(Finding(what, "bad", f"{name} writes its size too", "turn it off, or leave it alone"))
    try:
        out.extend(_quota(group, str(settings.get("location", ""))))
        out.extend(_standby(group))
    except PoolError as e:
        out.append(Finding(what, "warn", e.what, e.hint))
    return tuple(out)


def other_writers(group: ScaleSet) -> tuple[str, ...]:
    """Names of whoever else writes the scale set's size: by its tags, and settings of Azure Monitor autoscale."""
    tags = group.settings().get("tags") or {}
    tagged = tuple(f"{who} {tags[tag]}" for tag, who in _WRITERS.items() if tags.get(tag, "false") != "false")
    return (*tagged, *(f"autoscale setting {name}" for name in group.autoscalers()))


def _shape(group: ScaleSet, settings: Json) -> Iterator[Finding]:
    properties, what = settings.get("properties", {}), f"scale set {group.options.scale_set}"
    if properties.get("orchestrationMode") != "Flexible":
        yield Finding(what, "bad", "its orchestration is not flexible", "make one that is: it cannot be changed")
    capable = properties.get("additionalCapabilities", {}).get("hibernationEnabled", False)
    if Standby.HIBERNATED in group.group.standby_states and not capable:
        hint = "enable hibernation on the scale set, or leave hibernated out of the group's states"
        yield Finding(what, "bad", "its machines cannot hibernate", hint)


def _quota(group: ScaleSet, location: str) -> Iterator[Finding]:
    for usage in group.usages(location):
        used, limit = float(usage["currentValue"]), float(usage["limit"])
        if limit and used > _NEARLY * limit:
            name = usage["name"].get("localizedValue") or usage["name"]["value"]
            yield Finding(f"quota of {location}", "warn", f"{used:g} of {limit:g} {name} are in use", "raise it")


def _standby(group: ScaleSet) -> Iterator[Finding]:
    if group.standby is not None:
        counts = ", ".join(f"{n} {state}" for state, n in sorted(group.standby.counts().items()) if n)
        yield Finding(f"standby pool {group.options.standby_pool}", "ok", counts or "empty")
