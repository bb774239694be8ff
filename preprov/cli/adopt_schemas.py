"""Documents of the commands that adopt pools."""

from typing import Literal

from pydantic import Field

from preprov.cli.schema_base import Envelope, Part


class AdoptedPool(Part):
    """A pool that Terraform declares."""

    pool: str
    state: Literal["new", "registered"] = Field(description="registered = it was in the configuration before.")
    counts_owner: Literal["preprov", "terraform"]
    groups: list[str]
    differences: list[str] = Field(description="Where the configuration is not as Terraform declares.")
    drift: list[str] = Field(description="Where what exists is not as Terraform declares.")


class AdoptedTerraform(Envelope):
    """pool adopt terraform."""

    source: str
    written: str | None = Field(description="File to which the new pools were added; null if there were none.")
    pools: list[AdoptedPool]
