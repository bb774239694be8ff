"""Which of the rights that preprov needs are lacking, and the role that grants them, to be pasted; reads only."""

import json
import re
from collections.abc import Iterable
from typing import Final, Literal

from preprov.contracts import Finding
from preprov.model.errors import PoolError
from preprov.model.pools import Mode
from preprov.pools.azure.actions import ACT, BAKE, OBSERVE
from preprov.pools.azure.clients import Clients, Json
from preprov.pools.azure.options import AzureGroup

_API: Final = "2022-04-01"


def examine(clients: Clients, options: AzureGroup) -> Finding:
    """One finding about the rights on the resource group, in the mode of the pool."""
    what, place = f"group {options.where}: rights", options.place
    acts = (*ACT, *(BAKE if options.gallery_image else ()))
    wanted = (*OBSERVE, *acts) if options.pool.mode in (Mode.FLOOR, Mode.FULL) else OBSERVE
    scope = f"/subscriptions/{place.subscription}/resourceGroups/{place.resource_group}"
    try:
        path = f"{scope}/providers/Microsoft.Authorization/permissions"
        rows = clients.resources(place, options.where, path, _API)
    except PoolError as e:
        return Finding(what, "warn", f"cannot be asked: {e.what}", e.hint)
    lacking = sorted(r for r in wanted if not _held(r, rows))
    if not lacking:
        return Finding(what, "ok", f"all {len(wanted)} are held on resource group {place.resource_group}")
    elsewhere = all("/Microsoft.Network/" in f"/{r}" or "/locations/" in r for r in lacking)
    hint = (
        "put this into role.json, az role definition create --role-definition @role.json, and assign it"
        f"\n{role(lacking, scope)}"
    )
    state: Literal["bad", "warn"] = "warn" if elsewhere else "bad"
    return Finding(what, state, f"missing on the resource group: {', '.join(lacking)}", hint)


def role(rights: Iterable[str], scope: str) -> str:
    """A role definition that grants them, as the Azure CLI reads it."""
    made = {
        "Name": "preprov",
        "Description": "What preprov lacks",
        "Actions": sorted(rights),
        "AssignableScopes": [scope],
    }
    return json.dumps(made, indent=2)


def _held(right: str, rows: Iterable[Json]) -> bool:
    """True if one of the roles grants it and does not take it away again."""
    return any(
        any(_covers(p, right) for p in row.get("actions", ()))
        and not any(_covers(p, right) for p in row.get("notActions", ()))
        for row in rows
    )


def _covers(pattern: str, right: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), right, re.IGNORECASE) is not None
