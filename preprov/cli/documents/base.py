"""What all JSON documents of the commands share."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a document: no fields but its own."""

    model_config = ConfigDict(extra="forbid")


class Envelope(BaseModel):
    """What every document has."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: str = Field(alias="schema", description="Name and version of this document.")
    command: str
    pool: str | None
    issued_at: datetime
