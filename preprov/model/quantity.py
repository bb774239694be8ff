"""Quantities as Kubernetes writes them."""

import re
from collections.abc import Mapping
from typing import Final

_NUMBER: Final = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)$")
_SUFFIXES: Final[Mapping[str, float]] = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_NAN: Final = float("nan")


def quantity(text: object) -> float:
    """A quantity as a number; NaN if it is none (`500m` = .5, `4Gi` = 4294967296)."""
    match = _NUMBER.match(str(text).strip())
    if match is None or match[2] not in _SUFFIXES:
        return _NAN
    try:
        return float(match[1]) * _SUFFIXES[match[2]]
    except ValueError:
        return _NAN
