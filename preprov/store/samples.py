"""The port for usage samples: Parquet files by pool, read by DuckDB.

A file is written under another name and renamed, so that a half-written one is never seen. Small files are merged now
and then, and samples grow coarser with age (see `thinning`): in small files as they are merged, in a large one once all
of it is old enough. Which files a merged one replaces is written down before it takes its place, so that readers never
take both, and the next merge clears away what one that died has left. A thinned file takes the very place of what it
was. A sample that comes twice counts once, unless it is thinned before the two meet in one file.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from preprov.model.agent import Usage
from preprov.model.errors import StoreError, StoreUnavailableError
from preprov.model.usage import Thinning, UsageSummary
from preprov.store.thinning import COLUMNS, completed, is_due, thinned

COMPACT_FILES: Final = 64
_SMALL_BYTES: Final = 32 * 2**20
_CHUNK: Final = 100_000
_ROW_GROUP: Final = 20_480
"""Rows that are read together: few, for one task's samples stand side by side and are not many."""
_LISTED: Final = 500
_AT_ONCE: Final = 4
"""Large files that are thinned in one go, so that whoever keeps samples is not held up; the others come next."""


class ParquetSampleStore:
    """Implements `contracts.SampleStore` under `folder`/<pool>/."""

    def __init__(self, folder: Path, thinning: Thinning | None = None, now: Callable[[], float] = time.time) -> None:
        """Touch nothing yet.

        Args:
            folder: is made when the first sample is kept. thinning: None = as usual. now: epoch seconds.
        """
        self._folder = folder
        self._thinning = thinning or Thinning()
        self._now = now

    def append(self, pool: str, samples: Iterable[tuple[str, Usage]]) -> int:
        """Keep (claimant, usage); returns how many."""
        import pyarrow.parquet as pq

        chunks = _tables(samples)
        first = next(chunks, None)
        if first is None:
            return 0
        folder = self._folder / quote(pool, safe="")
        count = int(first.num_rows)
        with _whole_file(_new(folder)) as part, pq.ParquetWriter(part, first.schema, compression="zstd") as writer:
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

    def latest(self, claimants: Collection[str], *, since: float) -> Mapping[str, Usage]:
        """The last sample of each that is not before `since`; those without any are left out."""

        def recent(mine: Any) -> list[tuple[Any, ...]]:
            from duckdb import ColumnExpression, ConstantExpression

            return _in_order(mine.filter(ColumnExpression("ts") >= ConstantExpression(since)))

        return {claimant: Usage(*row) for claimant, *row in self._read(claimants, recent)}

    def summaries(self, claimants: Collection[str]) -> Mapping[str, UsageSummary]:
        """What each used, in short; those without any sample are left out."""
        rows = self._read(claimants, _in_short)
        return {c: UsageSummary(int(n), *(math.nan if v is None else v for v in told)) for c, n, *told in rows}

    def _read(self, claimants: Collection[str], ask: Callable[[Any], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        """What is asked about the samples of these claimants, each sample once."""
        wanted = sorted(set(claimants))
        if not wanted:
            return []
        for _ in range(3):
            files = [f for folder in sorted(self._folder.glob("*/")) for f in _standing(folder)]
            if not files:
                return []
            before = _identities(files)
            try:
                found = _select(files, wanted, ask)
            except StoreError:
                if before == _identities(files):
                    raise
                continue  # merged into another file, or thinned, between the listing and the reading: look again
            after = _identities(files)
            if all(after.get(f, who) == who for f, who in before.items()):
                return found
        raise StoreUnavailableError("the samples are being rearranged", where=str(self._folder), hint="try again")

    def compact(self, pool: str) -> int:
        """Merge the pool's small files, the oldest first, sorted by claimant and time, and thin what has grown old.

        Returns how many were merged; 0 too where another process is at it.
        """
        folder = self._folder / quote(pool, safe="")
        if not folder.is_dir():
            return 0
        with _alone(folder) as mine:
            if not mine:
                return 0
            _clear_up(folder)
            merged = self._merge(folder)
            self._thin(folder)
        return merged

    def _merge(self, folder: Path) -> int:
        merged = 0
        for files in _batches(self._small(folder)):
            target = _new(folder)
            with _whole_file(target) as part:
                self._write(files, part)
                _note(target, files)
            _clear_up(folder)
            merged += len(files)
        return merged

    def _thin(self, folder: Path) -> None:
        due = (f for f in _standing(folder) if is_due(f, self._thinning, self._now()))
        for file in islice(due, _AT_ONCE):
            with _whole_file(file) as part:
                self._write([file], part)

    def _write(self, files: list[Path], target: Path) -> None:
        with _duckdb() as connection:
            kept = thinned(_samples(connection, files), self._thinning, self._now())
            ordered = kept.order("claimant, ts")
            ordered.write_parquet(str(target), compression="zstd", row_group_size=_ROW_GROUP)

    @staticmethod
    def _small(folder: Path) -> dict[Path, int]:
        """Files that are still small, the oldest first, and their sizes."""
        found = []
        for file in folder.glob("*.parquet"):
            try:
                told = file.stat()
            except FileNotFoundError:
                continue
            if told.st_size < _SMALL_BYTES:
                found.append((told.st_mtime_ns, file, told.st_size))
        return {file: size for _, file, size in sorted(found)}


def _batches(small: Mapping[Path, int]) -> Iterator[list[Path]]:
    """Two or more files at a time that together make a large one, or all there are: so a merge takes bounded memory."""
    batch: list[Path] = []
    total = 0
    for file, size in small.items():
        batch.append(file)
        total += size
        if total >= _SMALL_BYTES and len(batch) > 1:
            yield batch
            batch, total = [], 0
    if len(batch) > 1:
        yield batch


def _new(folder: Path) -> Path:
    return folder / f"{uuid4().hex}.parquet"


@contextmanager
def _whole_file(target: Path) -> Iterator[Path]:
    """A path to write to; what was written takes the target's place only if all went well."""
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{uuid4().hex}.part"
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot keep usage samples: {error.strerror or error}", where=str(folder)) from error


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody else rearranges this folder; while inside, nobody else may."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _note(target: Path, replaced: list[Path]) -> None:
    """Write down what a file replaces, before it takes its place."""
    with (target.parent / f".{target.stem}.merged").open("w") as note:
        note.write("".join(f"{f.name}\n" for f in replaced))
        note.flush()
        os.fsync(note.fileno())


def _notes(folder: Path) -> Iterator[tuple[Path, Path, list[Path]]]:
    """Notes of merges that were not cleared up after: the note, the merged file, what it replaces."""
    for note in folder.glob(".*.merged"):
        try:
            names = note.read_text().splitlines()
        except FileNotFoundError:
            continue
        yield note, folder / f"{note.stem[1:]}.parquet", [folder / n for n in names]


def _clear_up(folder: Path) -> None:
    """Remove what merged files replace. Only for who is alone: of others a note may be of a merge that goes on."""
    for note, merged, replaced in list(_notes(folder)):
        for file in replaced if merged.exists() else ():
            file.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _standing(folder: Path) -> list[Path]:
    """The files of a folder that no other of them replaces."""
    files = set(folder.glob("*.parquet"))
    replaced = {f for _, merged, old in _notes(folder) if merged in files for f in old}
    return sorted(files - replaced)


def _identities(files: list[Path]) -> dict[Path, tuple[int, int]]:
    """What stands under these names now; one that is gone is left out."""
    found = {}
    for file in files:
        try:
            told = file.stat()
        except FileNotFoundError:
            continue
        found[file] = (told.st_ino, told.st_mtime_ns)
    return found


def _tables(samples: Iterable[tuple[str, Usage]]) -> Iterator[Any]:
    """Arrow tables of at most a chunk each."""
    import pyarrow as pa

    schema = pa.schema([("claimant", pa.string()), *((name, pa.float64()) for name in COLUMNS[1:])])
    amounts = attrgetter(*(f.name for f in fields(Usage)))
    source = iter(samples)
    while chunk := list(islice(source, _CHUNK)):
        rows = [(claimant, *amounts(u)) for claimant, u in chunk]
        yield pa.table(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)), schema=schema)


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
    """What stands in these files."""
    return completed(connection.read_parquet([str(f) for f in files], union_by_name=True))


def _select(
    files: list[Path], claimants: list[str], ask: Callable[[Any], list[tuple[Any, ...]]]
) -> list[tuple[Any, ...]]:
    with _duckdb() as connection:
        return ask(_of(connection, _samples(connection, files), claimants))


def _of(connection: Any, samples: Any, claimants: list[str]) -> Any:
    """Those of these claimants. So long as they are not too many, of other rows only the name is looked at."""
    import pyarrow as pa
    from duckdb import ColumnExpression, ConstantExpression

    if len(claimants) <= _LISTED:
        return samples.filter(ColumnExpression("claimant").isin(*(ConstantExpression(c) for c in claimants)))
    wanted = connection.from_arrow(pa.table({"claimant": pa.array(claimants, pa.string())}))
    return samples.join(wanted, "claimant", how="semi")


def _in_order(mine: Any) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = mine.distinct().project(", ".join(COLUMNS)).order("claimant, ts").fetchall()
    return rows


def _in_short(mine: Any) -> list[tuple[Any, ...]]:
    once = mine.project("claimant, ts, cpu, memory, memory_mean, samples").distinct()
    each = once.project("claimant, cpu, memory, memory_mean, unnest(range(CAST(samples AS BIGINT)))")
    told = "claimant, count(*), avg(cpu), quantile_cont(cpu, 0.95), max(memory), avg(memory_mean)"
    rows: list[tuple[Any, ...]] = each.aggregate(told, "claimant").order("claimant").fetchall()
    return rows
