"""Instants as orchestrators and clusters write them in JSON."""

from datetime import UTC, datetime
from typing import Any, Final

NAN: Final = float("nan")
"""No instant. Always this one object: two NaN differ in their hashes, so that whatever holds another looks changed."""


def seconds(value: Any, shift_s: float = 0.0) -> float:
    """An ISO time as epoch seconds, so many seconds later; NaN if there is none, or it is none.

    A time without offset is UTC.
    """
    if not isinstance(value, str) or not value:
        return NAN
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return NAN
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() + shift_s
