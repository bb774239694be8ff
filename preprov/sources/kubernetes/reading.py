"""Fields of objects, whatever else is found in their place."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from preprov.sources.instants import seconds

Json: TypeAlias = Mapping[str, Any]


def instant(text: object) -> float | None:
    """Epoch seconds of an RFC 3339 time; None if it is none."""
    at = seconds(text)
    return None if math.isnan(at) else at


def of(value: Json, name: str) -> Json:
    """A part of an object; empty if there is none."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def owners(meta: Json) -> Sequence[Json]:
    """Who made an object."""
    return [o for o in meta.get("ownerReferences") or () if isinstance(o, Mapping)]
