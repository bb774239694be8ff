"""Declared pools as sections of preprov.toml, and how what is configured or exists differs from what is declared."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from preprov.model.errors import ConfigError
from preprov.model.nodes import Phase, PoolObservation
from preprov.model.pools import Group, Pool
from preprov.pools.terraform_command import Change
from preprov.pools.terraform_declared import DeclaredGroup, DeclaredPool

COUNT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "aws_autoscaling_group": frozenset(
        {"desired_capacity", "min_size", "warm_pool", "warm_pool_size", "predicted_capacity"}
    ),
    "google_compute_instance_group_manager": frozenset(
        {"target_size", "target_stopped_size", "target_suspended_size", "status", "fingerprint"}
    ),
    "azurerm_orchestrated_virtual_machine_scale_set": frozenset({"instances"}),
    "azurerm_virtual_machine_scale_set_standby_pool": frozenset({"elasticity_profile"}),
    "terraform_data": frozenset({"input", "output"}),
}
"""Resource type -> attributes that are counts, or follow from them."""
_NOTES: Final = frozenset({"tag", "tags"})
"""Attributes in which preprov leaves notes where the counts are its own."""
_SHAPE: Final = frozenset(
    {
        *COUNT_FIELDS,
        "aws_autoscaling_lifecycle_hook",
        "aws_launch_template",
        "google_compute_instance_template",
    }
)
"""Resource types that make up a pool; a network, say, is not our business."""
_KEPT: Final = (Phase.HIBERNATED, Phase.STOPPED)


def is_count(change: Change) -> bool:
    """True if nothing but counts of a group changes."""
    return change.actions == ("update",) and change.fields <= COUNT_FIELDS.get(change.type_, frozenset())


def shape_drift(changes: Iterable[Change], counts_owner: str) -> tuple[Change, ...]:
    """Those of the changes made outside of Terraform that are of a pool's shape.

    Where the counts are preprov's, counts and notes are its own doing and no drift.
    """
    ours = counts_owner == "preprov"
    return tuple(c for c in changes if c.type_ in _SHAPE and not (ours and _is_ours(c)))


def _is_ours(change: Change) -> bool:
    return change.actions == ("update",) and change.fields - _NOTES <= COUNT_FIELDS.get(change.type_, frozenset())


# ---- as configuration


def section(pool: DeclaredPool, folder: Path | None) -> dict[str, Any]:
    """The pool as a [[pool]] section, in mode observe as every new pool.

    Args:
        pool: as declared.
        folder: the root module's; None = only its state is known.

    Raises:
        ConfigError: its counts go through Terraform, and where that is is not known.
    """
    return {"name": pool.name, "group": [_group(pool, g, folder) for g in pool.groups]}


def _group(pool: DeclaredPool, group: DeclaredGroup, folder: Path | None) -> dict[str, Any]:
    counted = pool.counts_owner == "terraform"
    options = _through_terraform(pool, group, folder) if counted else dict(group.options)
    return {
        "name": group.name,
        "provider": "terraform" if counted else group.provider,
        "states": list(group.states),
        "mixes_states": group.mixes_states and not counted,
        "chooses_offering": group.provider == "local" and not counted,
        "chooses_zone": group.chooses_zone and not counted,
        "min_nodes": group.min_nodes,
        "max_nodes": group.max_nodes,
        **({"options": options} if options else {}),
        "offering": [{k: v for k, v in o.model_dump().items() if v not in (None, "")} for o in group.offerings],
    }


def _through_terraform(pool: DeclaredPool, group: DeclaredGroup, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        raise ConfigError(
            f"the counts of pool {pool.name} go through Terraform, and a state does not say where that is run",
            where=pool.name,
            hint="give the folder of the root module",
        )
    if not pool.counts_variable:
        raise ConfigError(
            f"pool {pool.name} does not say which variable its counts come from",
            where=pool.name,
            hint="set counts_variable in the module",
        )
    return {
        "dir": str(folder.absolute()),
        "variable": pool.counts_variable,
        "vendor": group.provider,
        **({"vendor_options": dict(group.options)} if group.options else {}),
    }


def as_toml(pool: Mapping[str, Any]) -> str:
    """A section of `section` as text, to be appended to preprov.toml."""
    lines = ["", "[[pool]]", *_pairs(pool, skip=("group",))]
    for group in pool["group"]:
        lines += ["", "[[pool.group]]", *_pairs(group, skip=("offering",))]
        for offering in group["offering"]:
            lines += ["", "[[pool.group.offering]]", *_pairs(offering)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any], skip: tuple[str, ...] = ()) -> Iterator[str]:
    return (f"{k} = {_value(v)}" for k, v in table.items() if k not in skip)


def _value(value: Any) -> str:
    """A TOML value; a JSON number or boolean is one already, a string nearly."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(str(k))} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# ---- drift


def differences(wanted: Mapping[str, Any], pool: Pool) -> tuple[str, ...]:
    """How a configured pool differs from the section that Terraform's declaration comes to; a line each.

    What only the configuration has (leads, prices, further options) is no difference.
    """
    groups = {g.name: g for g in pool.groups}
    out = [f"group {n} is configured, Terraform declares none" for n in groups if n not in _names(wanted)]
    for group in wanted["group"]:
        if group["name"] not in groups:
            out.append(f"group {group['name']} is declared, and not configured")
        else:
            out.extend(f"group {group['name']}: {line}" for line in _group_differences(group, groups[group["name"]]))
    return tuple(out)


def _names(wanted: Mapping[str, Any]) -> set[str]:
    return {g["name"] for g in wanted["group"]}


def _group_differences(wanted: Mapping[str, Any], group: Group) -> Iterator[str]:
    have: dict[str, object] = {
        "provider": group.provider,
        "states": sorted(str(s) for s in group.standby_states),
        "min_nodes": group.min_nodes,
        "max_nodes": group.max_nodes,
        **{f"options.{k}": group.options.get(k) for k in wanted.get("options", {})},
    }
    want = {**wanted, "states": sorted({*wanted["states"], "running"})}
    want |= {f"options.{k}": v for k, v in wanted.get("options", {}).items()}
    yield from (f"{k} is {v}, declared {want[k]}" for k, v in have.items() if v != want[k])
    held = {(o.instance_type, o.zone): (o.capacity.cpu, o.capacity.memory, o.capacity.gpu) for o in group.offerings}
    declared = {(o["type"], o.get("zone", "")): (o["cpu"], o["memory"], o["gpu"]) for o in wanted["offering"]}
    for key in sorted({*held, *declared}):
        if held.get(key) != declared.get(key):
            yield f"offering {key[0]} holds {held.get(key, 'nothing')}, declared {declared.get(key, 'none')}"


def strays(declared: DeclaredPool, seen: PoolObservation) -> tuple[str, ...]:
    """How what exists differs from what is declared; a line each. A group that could not be looked at is one too."""
    out = list(seen.problems)
    for group in declared.groups:
        nodes = [n for n in seen.nodes if n.group == group.name]
        types = {o.type for o in group.offerings}
        out += [f"{n.node_id} is a {n.offering.instance_type}" for n in nodes if n.offering.instance_type not in types]
        if len(nodes) > group.max_nodes:
            out.append(f"group {group.name}: {len(nodes)} nodes exist, {group.max_nodes} are declared as the most")
        if declared.counts_owner == "terraform":
            kept = sum(1 for n in nodes if n.phase in _KEPT)
            counts = (len(nodes) - kept, kept)
            if counts != (group.counts.running, group.counts.standby):
                out.append(
                    f"group {group.name}: {counts[0]} in service and {counts[1]} in standby exist, declared "
                    f"{group.counts.running} and {group.counts.standby}"
                )
    return tuple(out)
