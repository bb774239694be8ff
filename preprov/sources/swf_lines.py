"""Lines of the Standard Workload Format: a fast path for whole blocks, and an exact one for the lines it stumbles over.

Format: Feitelson et al., "The Standard Workload Format", Parallel Workloads Archive, version 2.2: 18 numbers a line.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from preprov.contracts import Reject

FIELDS: Final = (
    "job",
    "submit",
    "wait",
    "runtime",
    "allocated",
    "cpu_time",
    "memory_used",
    "requested",
    "requested_time",
    "requested_memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding",
    "think_time",
)
_TOO_MANY: Final = "more"


@dataclass(frozen=True)
class Lines:
    """Jobs of a block.

    Attributes:
        fields: (N rows) float64, columns FIELDS, in the order of the file.
        lines: (N,) 1-based line number of each. raw: all lines of the block, from line `first` on.
        rejects: lines that are not 18 numbers.
    """

    fields: pd.DataFrame
    lines: NDArray[np.int64]
    raw: list[bytes]
    first: int
    rejects: list[Reject]

    def text(self, line: int) -> str:
        """What the line says."""
        return self.raw[line - self.first].decode("utf-8", "replace").strip()


def parse_block(block: bytes, first: int) -> Lines:
    """Read a block of whole lines, the first of which has the number `first`; comments and empty lines are skipped."""
    raw = block.split(b"\n")
    if not raw[-1]:
        raw.pop()
    frame = _fast(block)
    if frame is not None and len(frame) == len(raw):
        numbers = np.arange(first, first + len(raw), dtype=np.int64)
    else:
        numbers = np.fromiter((first + i for i, x in enumerate(raw) if _is_data(x)), dtype=np.int64)
    if frame is None or len(frame) != len(numbers):
        good, rejects = _slow(raw, first, numbers)
        return Lines(_frame(good), np.array([n for n, _ in good], dtype=np.int64), raw, first, rejects)
    doubtful = frame.iloc[:, : len(FIELDS)].isna().to_numpy().any(axis=1) | frame[_TOO_MANY].notna().to_numpy()
    frame = frame[list(FIELDS)]
    if not doubtful.any():
        return Lines(frame, numbers, raw, first, [])
    good, rejects = _slow(raw, first, numbers[doubtful])
    lines = np.concatenate([numbers[~doubtful], np.array([n for n, _ in good], dtype=np.int64)])
    whole = pd.concat([frame[~doubtful], _frame(good)], ignore_index=True) if good else frame[~doubtful]
    order = np.argsort(lines, kind="stable")
    return Lines(whole.iloc[order].reset_index(drop=True), lines[order], raw, first, rejects)


def _is_data(line: bytes) -> bool:
    text = line.lstrip()
    return bool(text) and not text.startswith(b";")


def columns(block: bytes, *names: str) -> pd.DataFrame | None:
    """These fields of a block whose lines are all whole; None if one is not."""
    return _fast(block, list(names))


def _fast(block: bytes, only: list[str] | None = None) -> pd.DataFrame | None:
    """All lines at once by pandas' C parser; None if there are none, or one of them is more than it can bear."""
    try:
        return pd.read_csv(
            io.BytesIO(block),
            sep=r"\s+",
            comment=";",
            header=None,
            names=[*FIELDS, _TOO_MANY],
            usecols=only,
            index_col=False,
            dtype=np.float64,
            engine="c",
            on_bad_lines="error",
        )
    except (ValueError, OverflowError):  # both of pandas' own are a ValueError: a broken line, and no line at all
        return None


def _slow(
    raw: list[bytes], first: int, numbers: NDArray[np.int64]
) -> tuple[list[tuple[int, list[float]]], list[Reject]]:
    """The lines of these numbers, one by one."""
    good: list[tuple[int, list[float]]] = []
    rejects = []
    for n in numbers.tolist():
        text = raw[n - first].decode("utf-8", "replace").strip()
        try:
            good.append((n, _values(text)))
        except ValueError as e:
            rejects.append(Reject(n, str(e), text))
    return good, rejects


def _values(text: str) -> list[float]:
    words = text.split(";", 1)[0].split()
    if len(words) != len(FIELDS):
        raise ValueError(f"{len(words)} fields instead of {len(FIELDS)}")
    out = []
    for name, word in zip(FIELDS, words, strict=True):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"field {name} is not a number: {word!r}")
        out.append(value)
    return out


def _frame(good: list[tuple[int, list[float]]]) -> pd.DataFrame:
    return pd.DataFrame([v for _, v in good], columns=list(FIELDS), dtype=np.float64)


def comments(block: bytes) -> Iterator[str]:
    """Header lines of a block, without their semicolon."""
    at = block.find(b";")
    while at >= 0:
        begin = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        if not block[begin:at].strip():
            yield block[at + 1 : end].decode("utf-8", "replace").strip()
        at = block.find(b";", end)
