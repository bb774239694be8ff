"""Elements of an array as Slurm lists them: `0-9:2,15%4`."""

import re
from typing import Final

_MOST_ELEMENTS: Final = 100_000
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def is_cut(text: str) -> bool:
    """True if Slurm has left elements out at the end."""
    return "..." in text


def elements(text: str) -> list[int]:
    """Indices of `0-9:2,15%4`; none of what is no such list."""
    out: list[int] = []
    for part in text.partition("%")[0].strip("[]").split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            continue
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        out.extend(range(first, min(last, first + _MOST_ELEMENTS) + 1, max(step, 1)))
    return out[:_MOST_ELEMENTS]
