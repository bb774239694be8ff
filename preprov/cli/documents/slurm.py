"""Documents of the commands that Slurm calls, and of the one that makes its configuration."""

from typing import Literal

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class SlurmNodeDone(Part):
    """What became of one node."""

    node: str = Field(description="Slurm's name of it.")
    state: Literal["done", "failed"]
    what: str


class SlurmPower(Envelope):
    """slurm resume, slurm suspend, slurm resume-fail."""

    nodes: list[SlurmNodeDone]


class SlurmConfig(Envelope):
    """slurm config."""

    fragment: str = Field(description="For `Include` in slurm.conf.")
    written: list[str] = Field(description="Files that were written; none if only shown.")
    notes: list[str] = Field(description="What a person has to see to.")
