"""Documents of the commands about machine images."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from preprov.cli.documents.base import Envelope, Part


class OneImage(Part):
    """A machine image of a group."""

    image_id: str
    name: str
    digest: str = Field(description="Of the preload that is on it.")
    state: Literal["making", "ready", "failed"]
    made_at: datetime
    used_by: list[str] = Field(description="Templates, groups and machines; such an image is never deleted.")
    present: bool = Field(description="It holds what the pool preloads now.")


class Bench(Part):
    """A machine on which an image is made."""

    node_id: str
    phase: str
    launched_at: datetime


class GroupImages(Part):
    """Images of one group, the newest first."""

    group: str
    images: list[OneImage]
    benches: list[Bench]


class Images(Envelope):
    """image list."""

    digest: str = Field(description="Of what the pool preloads now.")
    groups: list[GroupImages]


class BakedGroup(Part):
    """The image of one group."""

    group: str
    made: bool = Field(description="False: it was there.")
    image: OneImage
    changed: list[str] = Field(description="What rolling it out changed; empty where that was not asked for.")


class BakedImages(Envelope):
    """image bake."""

    groups: list[BakedGroup]


class RolledOutGroup(Part):
    """What rolling out changed for one group."""

    group: str
    image: OneImage
    changed: list[str] = Field(description="Empty: new nodes booted from it already.")


class RolledOut(Envelope):
    """image rollout."""

    groups: list[RolledOutGroup]


class KeptImage(Part):
    """An image that stays."""

    image: OneImage
    why: str


class PrunedGroup(Part):
    """What became of the images of one group."""

    group: str
    deleted: list[OneImage]
    kept: list[KeptImage]
    benches_ended: list[str] = Field(description="Forgotten machines on which no image is made any more.")


class Pruned(Envelope):
    """image prune."""

    dry_run: bool
    groups: list[PrunedGroup]
