"""Instants as orchestrators and clusters write them in JSON."""

from datetime import UTC, datetime
from typing import Any


def seconds(value: Any) -> float:
    """An ISO time as epoch seconds; NaN if there is none, or it is none. A time without offset is UTC."""
    if not isinstance(value, str) or not value:
        return float("nan")
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return float("nan")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
