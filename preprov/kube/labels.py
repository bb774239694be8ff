"""By which everything that preprov makes in a cluster is known."""

from collections.abc import Mapping
from typing import Any, Final

MANAGER: Final = "preprov"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
POOL: Final = "preprov.io/pool"


def holds_room(thing: Mapping[str, Any]) -> bool:
    """True for Jobs and pods that hold room: they are no work."""
    labels = (thing.get("metadata") or {}).get("labels") or {}
    return labels.get(MANAGED_BY) == MANAGER and POOL in labels
