"""Names that preprov takes: short enough, and still telling apart what differs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MOST = 250
"""Characters of a name."""
_TAIL = 20


def short(name: str, most: int = MOST) -> str:
    """The name; of one that is too long the end gives way to a digest of all of it."""
    return name if len(name) <= most else f"{name[: most - _TAIL - 1]}~{_digest(name)[:_TAIL]}"


def key_of(*parts: str) -> str:
    """A key by which preprov knows a request again."""
    return f"airflow-{_digest(chr(31).join(parts))[:40]}"


def digest_of(body: Mapping[str, Any]) -> str:
    """The same for the same request, whatever the order of its members."""
    return _digest(json.dumps(body, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
