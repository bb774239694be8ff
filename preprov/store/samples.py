"""The port for usage samples: Parquet files by pool, read by DuckDB.

A file is written under another name and renamed, so that a half-written one is never seen. Small files are merged now
and then; while that happens a sample may stand in two files, and readers take it once.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from preprov.model.agent import Usage
from preprov.model.errors import StoreError, StoreUnavailableError

COMPACT_FILES: Final = 64
_SMALL_BYTES: Final = 32 * 2**20
_CHUNK: Final = 100_000
_COLUMNS: Final = ("claimant", "ts", "cpu", "memory", "disk_io", "network", "gpu")
"""Of the files; ts = epoch seconds. The rest are the fields of `Usage`, in its order."""


class ParquetSampleStore:
    """Implements `contracts.SampleStore` under `folder`/<pool>/."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, pool: str, samples: Iterable[tuple[str, Usage]]) -> int:
        """Keep (claimant, usage); returns how many."""
        import pyarrow.parquet as pq

        chunks = _tables(samples)
        first = next(chunks, None)
        if first is None:
            return 0
        folder = self._folder / quote(pool, safe="")
        count = int(first.num_rows)
        with _whole_file(folder) as part, pq.ParquetWriter(part, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in chunks:
                writer.write_table(table)
                count += table.num_rows
        if len(self._small(folder)) >= COMPACT_FILES:
            self.compact(pool)
        return count

    def samples(self, claimant: str) -> tuple[Usage, ...]:
        """In time order."""
        for _ in range(3):
            files = sorted(self._folder.glob("*/*.parquet"))
            if not files:
                return ()
            try:
                return tuple(Usage(*row) for row in _select(files, claimant))
            except StoreError:
                if all(f.exists() for f in files):
                    raise
                # else merged into another file between the listing and the reading: look again
        raise StoreUnavailableError("the samples are being rearranged", where=str(self._folder), hint="try again")

    def compact(self, pool: str) -> int:
        """Merge the pool's small files into one, sorted by claimant and time; returns how many were merged."""
        folder = self._folder / quote(pool, safe="")
        small = self._small(folder)
        if len(small) < 2:
            return 0
        try:
            with _whole_file(folder) as part:
                _merge(small, part)
        except StoreError:
            if all(f.exists() for f in small):
                raise
            return 0  # another process is merging the same files
        for file in small:
            file.unlink(missing_ok=True)
        return len(small)

    @staticmethod
    def _small(folder: Path) -> list[Path]:
        found = []
        for file in sorted(folder.glob("*.parquet")):
            try:
                if file.stat().st_size < _SMALL_BYTES:
                    found.append(file)
            except FileNotFoundError:
                continue
        return found


@contextmanager
def _whole_file(folder: Path) -> Iterator[Path]:
    """A path to write to; what was written takes its place in the folder only if all went well."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{uuid4().hex}.part"
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(folder / f"{uuid4().hex}.parquet")
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot keep usage samples: {error.strerror or error}", where=str(folder)) from error


def _tables(samples: Iterable[tuple[str, Usage]]) -> Iterator[Any]:
    """Arrow tables of at most a chunk each."""
    import pyarrow as pa

    schema = pa.schema([("claimant", pa.string()), *((name, pa.float64()) for name in _COLUMNS[1:])])
    source = iter(samples)
    while chunk := list(islice(source, _CHUNK)):
        rows = [(claimant, u.at, u.cpu, u.memory, u.disk_io, u.network, u.gpu) for claimant, u in chunk]
        yield pa.table(dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)), schema=schema)


@contextmanager
def _duckdb() -> Iterator[Any]:
    import duckdb

    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            yield connection
    except duckdb.Error as error:
        told = " ".join(str(error).split())
        raise StoreError(f"usage samples cannot be read: {told}", hint="move the file it names elsewhere") from error


def _select(files: list[Path], claimant: str) -> list[tuple[float, ...]]:
    with _duckdb() as connection:
        from duckdb import ColumnExpression, ConstantExpression

        mine = connection.read_parquet([str(f) for f in files]).filter(
            ColumnExpression("claimant") == ConstantExpression(claimant)
        )
        fields = mine.select(*(ColumnExpression(name) for name in _COLUMNS[1:]))
        rows: list[tuple[float, ...]] = fields.distinct().order("ts").fetchall()
    return rows


def _merge(files: list[Path], target: Path) -> None:
    with _duckdb() as connection:
        merged = connection.read_parquet([str(f) for f in files]).distinct().order("claimant, ts")
        merged.write_parquet(str(target), compression="zstd")
