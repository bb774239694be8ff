"""Host lists as Slurm writes them: `cn[1-4,7],login`, `r[0-1]n[01-16]`."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Final

from preprov.slurm.errors import SlurmError, Trouble

_PART: Final = re.compile(r"([^\[\],]*)(?:\[([^\]]*)\])?")
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")
_MOST: Final = 65_536


def expand(expression: str) -> tuple[str, ...]:
    """The names, in order.

    Raises:
        SlurmError: it is no host list, or names more hosts than Slurm can have.
    """
    out: list[str] = []
    for item in _items(expression):
        for name in _names(item, expression):
            out.append(name)
            if len(out) > _MOST:
                raise SlurmError(Trouble.GARBLED, f"a host list of more than {_MOST} names", "host list")
    return tuple(out)


def _items(expression: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    depth, start = 0, 0
    for i, c in enumerate(expression):
        depth += (c == "[") - (c == "]")
        if not 0 <= depth <= 1:
            raise _wrong(expression)
        if c == "," and not depth:
            if expression[start:i].strip():
                yield expression[start:i].strip()
            start = i + 1
    if depth:
        raise _wrong(expression)
    if expression[start:].strip():
        yield expression[start:].strip()


def _names(item: str, whole: str) -> Iterator[str]:
    choices: list[tuple[str, ...]] = []
    for found in _PART.finditer(item):
        if found.group(1):
            choices.append((found.group(1),))
        if found.group(2) is not None:
            choices.append(tuple(_numbers(found.group(2), whole)))
    for parts in product(*choices):
        yield "".join(parts)


def _numbers(ranges: str, whole: str) -> Iterator[str]:
    for part in ranges.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise _wrong(whole)
        first, last = found.group(1), found.group(2) or found.group(1)
        if not int(first) <= int(last) < int(first) + _MOST:
            raise _wrong(whole)
        width = len(first)
        for n in range(int(first), int(last) + 1):
            yield f"{n:0{width}d}"


def _wrong(expression: str) -> SlurmError:
    return SlurmError(Trouble.GARBLED, f"{expression[:80]!r} is no host list", "host list")
