"""What is to be on a node's disk, and where it lies there."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from preprov.agent import disk
from preprov.agent.disk import Json


class StageError(Exception):
    """An item is not what it should be, or cannot be had."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image or dataset as node.json names it.

    Attributes:
        kind: "image" or "dataset". checksum: `sha256:…` of an image, plain hex of a dataset; "" = pin what is found.
        min_mb_s: read back slower than this it has failed; 0 = any speed will do.
    """

    kind: str
    key: str
    uri: str
    checksum: str = ""
    min_mb_s: float = 0.0

    @classmethod
    def all_of(cls, preload: Json) -> list["Item"]:
        """Items of `{"images": [{key, uri, digest}], "datasets": [{key, uri, sha256}], "min_read_mb_s"}`."""
        floor = float(preload.get("min_read_mb_s", 0.0))
        images = [cls("image", i["key"], i["uri"], i["digest"], floor) for i in preload.get("images", ())]
        return images + [cls("dataset", d["key"], d["uri"], d["sha256"], floor) for d in preload.get("datasets", ())]

    def place(self, node: disk.NodeDir) -> Path:
        """Folder of this item on the disk."""
        name = hashlib.sha256(f"{self.key}\x1f{self.checksum}".encode()).hexdigest()[:32]
        return node.disk / f"{self.kind}s" / name


def where(node: disk.NodeDir, item: Item) -> Path | None:
    """Path of a verified item as a task sees it; None if it is not there."""
    found = disk.read_json(item.place(node) / "verified.json")
    return item.place(node) / str(found["path"]) if found else None


def local_path(uri: str) -> Path | None:
    """The path of a file URI or plain path; None if the URI is of another kind."""
    if uri.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        return Path(unquote(urlsplit(uri).path))
    return Path(uri) if "://" not in uri else None
