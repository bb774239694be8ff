"""The port for usage samples: Parquet files by pool, read by DuckDB.

A file is written under another name and renamed, so that a half-written one is never seen. Small files are merged now
and then; while that happens a sample may stand in two files, and readers take it once.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from preprov.model.agent import Usage
from preprov.model.errors import StoreError, StoreUnavailableError
from preprov.model.usage import UsageSummary

COMPACT_FILES: Final = 64
_SMALL_BYTES: Final = 32 * 2**20
_CHUNK: Final = 100_000
_COLUMNS: Final = ("claimant", "ts", "cpu", "memory", "disk_io", "network", "gpu", "gpu_memory")
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
        return self.series((claimant,)).get(claimant, ())

    def series(self, claimants: Collection[str]) -> Mapping[str, tuple[Usage, ...]]:
        """As `samples`, of many at once; those without any are left out."""
        out: dict[str, list[Usage]] = {}
        for claimant, *row in self._read(claimants, _in_order):
            out.setdefault(claimant, []).append(Usage(*row))
        return {claimant: tuple(usage) for claimant, usage in out.items()}

    def summaries(self, claimants: Collection[str]) -> Mapping[str, UsageSummary]:
        """What each used, in short; those without any sample are left out."""
        rows = self._read(claimants, _in_short)
        return {c: UsageSummary(n, *(math.nan if v is None else v for v in told)) for c, n, *told in rows}

    def _read(self, claimants: Collection[str], ask: Callable[[Any], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        """What is asked about the samples of these claimants, each sample once."""
        wanted = sorted(set(claimants))
        if not wanted:
            return []
        for _ in range(3):
            files = sorted(self._folder.glob("*/*.parquet"))
            if not files:
                return []
            try:
                return _select(files, wanted, ask)
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
        rows = [(claimant, u.at, u.cpu, u.memory, u.disk_io, u.network, u.gpu, u.gpu_memory) for claimant, u in chunk]
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


def _samples(connection: Any, files: list[Path]) -> Any:
    """What stands in these files; a column that one is too old to have is empty there."""
    from duckdb import ColumnExpression, ConstantExpression

    told = connection.read_parquet([str(f) for f in files], union_by_name=True)
    there = set(told.columns)
    empty = ConstantExpression(None).cast("DOUBLE")
    return told.select(*(ColumnExpression(c) if c in there else empty.alias(c) for c in _COLUMNS))


def _select(
    files: list[Path], claimants: list[str], ask: Callable[[Any], list[tuple[Any, ...]]]
) -> list[tuple[Any, ...]]:
    import pyarrow as pa

    with _duckdb() as connection:
        wanted = connection.from_arrow(pa.table({"claimant": pa.array(claimants, pa.string())}))
        mine = _samples(connection, files).join(wanted, "claimant", how="semi")
        return ask(mine.distinct())


def _in_order(mine: Any) -> list[tuple[Any, ...]]:
    from duckdb import ColumnExpression

    rows: list[tuple[Any, ...]] = mine.select(*(ColumnExpression(c) for c in _COLUMNS)).order("claimant, ts").fetchall()
    return rows


def _in_short(mine: Any) -> list[tuple[Any, ...]]:
    told = "claimant, count(*), avg(cpu), quantile_cont(cpu, 0.95), max(memory)"
    rows: list[tuple[Any, ...]] = mine.aggregate(told, "claimant").order("claimant").fetchall()
    return rows


def _merge(files: list[Path], target: Path) -> None:
    with _duckdb() as connection:
        merged = _samples(connection, files).distinct().order("claimant, ts")
        merged.write_parquet(str(target), compression="zstd")
