"""What objects of a cluster say of themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def annotations(thing: Mapping[str, Any]) -> Mapping[str, str]:
    """Of an object."""
    return thing["metadata"].get("annotations") or {}


def instant(text: object) -> datetime | None:
    """An aware instant of RFC 3339; None if it is none."""
    try:
        at = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def finished(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition by which a Job is over; empty = it goes on."""
    for c in (job.get("status") or {}).get("conditions") or ():
        if c.get("type") in ("Complete", "Failed") and c.get("status") == "True":
            return dict(c)
    return {}
