"""Pools as Terraform declares them: read from the outputs of a root module, or from its state."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from preprov.model.errors import ConfigError

SCHEMA: Final = "preprov/terraform/1"
_HINT: Final = "pass the module's preprov_pool on as an output of the root module, and apply"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class DeclaredOffering(_Part):
    """What a node of a group is; cpu in cores, memory in GiB."""

    type: str
    cpu: float = Field(gt=0)
    memory: float = Field(gt=0)
    gpu: float = Field(default=0.0, ge=0)
    usd_per_hour: float | None = None
    zone: str = ""
    capacity_type: Literal["on_demand", "spot", "reserved"] = "on_demand"


class DeclaredCounts(_Part):
    """Nodes in service, and kept in standby, as Terraform last set them."""

    running: int = Field(default=0, ge=0)
    standby: int = Field(default=0, ge=0)


class DeclaredGroup(_Part):
    """A vendor's group.

    Attributes:
        standby: the standby state it keeps, None = none.
        options: what the vendor's provider needs to find it.
    """

    name: str
    provider: Literal["local", "aws", "gcp", "azure"]
    states: tuple[Literal["running", "hibernated", "stopped"], ...]
    mixes_states: bool = True
    chooses_zone: bool = False
    min_nodes: int = Field(default=0, ge=0)
    max_nodes: int = Field(ge=0)
    standby: Literal["hibernated", "stopped"] | None = None
    counts: DeclaredCounts = DeclaredCounts()
    offerings: tuple[DeclaredOffering, ...] = Field(min_length=1)
    options: Mapping[str, Any] = Field(default_factory=dict)


class DeclaredPool(_Part):
    """A pool, as the modules under infra/terraform put it out.

    Attributes:
        counts_owner: who writes its counts. counts_variable: the root module's variable they come from.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    schema_: Literal["preprov/terraform/1"] = Field(alias="schema")
    name: str
    counts_owner: Literal["preprov", "terraform"]
    counts_variable: str = ""
    groups: tuple[DeclaredGroup, ...] = Field(min_length=1)

    def group(self, name: str) -> DeclaredGroup:
        """The group of that name.

        Raises:
            ConfigError: Terraform declares none.
        """
        found = next((g for g in self.groups if g.name == name), None)
        if found is None:
            raise ConfigError(f"Terraform declares no group {name}", where=self.name, hint="adopt the pool again")
        return found


def declared_in(document: Mapping[str, Any], where: str) -> tuple[DeclaredPool, ...]:
    """Pools in a document of Terraform: `output -json`, `show -json`, or a state file; by name.

    Raises:
        ConfigError: it has none, one is not as it should be, or two have the same name.
    """
    pools = sorted((_pool(name, value, where) for name, value in _ours(document)), key=lambda p: p.name)
    if not pools:
        raise ConfigError("Terraform declares no pool of preprov", where=where, hint=_HINT)
    names = [p.name for p in pools]
    if len(set(names)) != len(names):
        raise ConfigError(f"pools of the same name: {', '.join(names)}", where=where, hint="name each differently")
    return tuple(pools)


def read_state(path: Path) -> tuple[DeclaredPool, ...]:
    """Pools in a file: a state, or what `terraform output -json` or `terraform show -json` printed.

    Raises:
        ConfigError: it cannot be read, or has no pool.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", where=str(path)) from None
    except ValueError:
        raise ConfigError(f"{path} is not JSON", where=str(path), hint="a plan is none: give a state") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is no state of Terraform", where=str(path), hint=_HINT)
    return declared_in(document, str(path))


def _ours(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Outputs that are pools; a root module may put out one, or several in a list or a map."""
    for name, output in _outputs(document).items():
        value = output.get("value") if isinstance(output, dict) else None
        several = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        for one in (value, *several):
            if isinstance(one, dict) and str(one.get("schema", "")).startswith("preprov/terraform/"):
                yield name, one


def _outputs(document: Mapping[str, Any]) -> Mapping[str, Any]:
    for found in (document.get("outputs"), (document.get("values") or {}).get("outputs"), document):
        if isinstance(found, dict) and found:
            return found
    return {}


def _pool(output: str, value: Any, where: str) -> DeclaredPool:
    if value.get("schema") != SCHEMA:
        raise ConfigError(
            f"output {output} is of schema {value.get('schema')}, this preprov reads {SCHEMA}",
            where=where,
            hint="use modules and preprov of the same release",
        )
    try:
        return DeclaredPool.model_validate(value)
    except ValidationError as e:
        first = e.errors()[0]
        at = ".".join(str(p) for p in first["loc"])
        raise ConfigError(f"output {output}, {at}: {first['msg']}", where=where, hint=_HINT) from None
