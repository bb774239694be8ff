"""By which everything that preprov makes in a cluster is known."""

from collections.abc import Mapping
from typing import Any, Final

MANAGER: Final = "preprov"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
POOL: Final = "preprov.io/pool"
KIND: Final = "preprov.io/kind"
TASK: Final = "preprov.io/task"
"""Label: a digest of the claimant, which an annotation holds as it is."""
CLAIMANT: Final = "preprov.io/claimant"
NODE_ID: Final = "preprov.io/node-id"


def is_known(thing: Mapping[str, Any]) -> bool:
    """True for what preprov itself has made: room that it holds, and tasks that it has started and knows already."""
    labels = (thing.get("metadata") or {}).get("labels") or {}
    return holds_room(thing) or (labels.get(MANAGED_BY) == MANAGER and labels.get(KIND) == "task")


def holds_room(thing: Mapping[str, Any]) -> bool:
    """True for Jobs and pods that hold room: they are no work."""
    labels = (thing.get("metadata") or {}).get("labels") or {}
    return labels.get(MANAGED_BY) == MANAGER and POOL in labels
