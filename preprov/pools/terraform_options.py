"""A group's options where its counts go through Terraform, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from preprov.model.pools import Group, Pool
from preprov.pools.group_options import Options, read_options
from preprov.pools.terraform_command import Terraform
from preprov.pools.terraform_counts import CountsFile

_EXAMPLE: Final = "`preprov pool adopt terraform DIR` writes them: dir, variable, vendor, vendor_options"


class _Raw(Options):
    dir: Path
    variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")
    vendor: Literal["local", "aws", "gcp", "azure"]
    vendor_options: dict[str, Any] = Field(default_factory=dict)
    pool: str = ""
    by: Literal["apply", "pull-request"] = "apply"
    program: str = "terraform"
    timeout: float = Field(default=900.0, gt=0, description="seconds")
    lock_timeout: float = Field(default=60.0, ge=0, description="seconds")


@dataclass(frozen=True, slots=True)
class TerraformGroup:
    """A group of a pool with its options.

    Attributes:
        declared: the pool's name in Terraform.
        vendor: whose nodes they are, with the options its provider finds them by.
        by: "apply", or "pull-request" = the variable's file is written and nothing is applied.
    """

    pool: Pool
    group: Group
    terraform: Terraform
    file: CountsFile
    declared: str
    vendor: str
    vendor_options: Mapping[str, Any]
    by: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.pool.name}/{self.group.name}"

    def of_vendor(self) -> Group:
        """The group as its vendor's provider is to see it."""
        return replace(self.group, provider=self.vendor, options=self.vendor_options)


def terraform_group(pool: Pool, name: str) -> TerraformGroup:
    """Read the options of a group.

    Raises:
        ConfigError: one is missing, unknown or wrong.
    """
    group = pool.group(name)
    raw = read_options(_Raw, pool, group, _EXAMPLE)
    folder = raw.dir.expanduser().absolute()
    return TerraformGroup(
        pool=pool,
        group=group,
        terraform=Terraform(folder, raw.program, raw.timeout, raw.lock_timeout),
        file=CountsFile(folder, raw.variable),
        declared=raw.pool or pool.name,
        vendor=raw.vendor,
        vendor_options=raw.vendor_options,
        by=raw.by,
    )
