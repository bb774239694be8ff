"""Whether a managed instance group is fit for use, and who else writes it; reads only."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from preprov.contracts import Finding
from preprov.model.errors import PoolError
from preprov.pools.gcp.group import ManagedGroup
from preprov.pools.gcp.view import name_of

_GUEST: Final = "enable-guest-attributes"
_NEARLY: Final = 0.9


def examine(group: ManagedGroup) -> tuple[Finding, ...]:
    """Credentials and rights by trying, the template, the standby policy, other writers, the quota."""
    what = f"group {group.where}"
    try:
        settings = group.settings()
    except PoolError as e:
        return (Finding(what, "bad", e.what, e.hint),)
    checks: tuple[Callable[[ManagedGroup, Any], Iterator[Finding]], ...] = (_template, _policy, _writers, _quota)
    out = [Finding(what, "ok", f"{group.options.mig} has {settings.target_size} machines")]
    for check in checks:
        try:
            out.extend(check(group, settings))
        except PoolError as e:
            out.append(Finding(what, "warn", e.what, e.hint))
    return tuple(out)


def other_writers(group: ManagedGroup) -> tuple[str, ...]:
    """Names of whoever else writes the group's size."""
    settings = group.settings()
    scaler = settings.status.autoscaler
    found = [f"autoscaler {name_of(scaler)}"] if scaler else []
    if settings.base_instance_name.startswith("gke-"):
        found.append(f"Kubernetes node pool {settings.base_instance_name}")
    return tuple(found)


def _template(group: ManagedGroup, settings: Any) -> Iterator[Finding]:
    name = name_of(settings.instance_template)
    template = group.ask("InstanceTemplates", "get", instance_template=name)
    items = {i.key: i.value for i in template.properties.metadata.items}
    if items.get(_GUEST, "").upper() == "TRUE":
        yield Finding(f"template {name}", "ok", "guest attributes are allowed")
    else:
        hint = f"set metadata {_GUEST} = TRUE in the template: without it no node can say that it is ready"
        yield Finding(f"template {name}", "bad", "guest attributes are not allowed", hint)


def _policy(group: ManagedGroup, settings: Any) -> Iterator[Finding]:
    delay_s = int(settings.standby_policy.initial_delay_sec)
    if delay_s:
        hint = "nodes are put to sleep by name when they are verified: set initial_delay_sec to 0"
        yield Finding(f"standby policy of {settings.name}", "warn", f"it waits {delay_s} s before it acts", hint)


def _writers(group: ManagedGroup, settings: Any) -> Iterator[Finding]:
    for name in other_writers(group):
        yield Finding(f"group {group.where}", "bad", f"{name} writes its size too", "turn it off, or leave it alone")


def _quota(group: ManagedGroup, settings: Any) -> Iterator[Finding]:
    region = group.ask("Regions", "get", region=group.options.place.region)
    for quota in region.quotas:
        if quota.limit and quota.usage > _NEARLY * quota.limit:
            found = f"{quota.usage:g} of {quota.limit:g} {quota.metric} are in use"
            yield Finding(f"quota of {region.name}", "warn", found, "raise it in IAM & Admin")
