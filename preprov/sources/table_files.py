"""Parquet and CSV (commas or tabs) files as Arrow tables, with the line each row stands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprov.contracts import Reject
from preprov.model.errors import ConfigError, SourceError
from preprov.sources.files import reading

_PARQUET_MAGIC: Final = b"PAR1"
_HEADER_BYTES: Final = 65_536


@dataclass(frozen=True)
class LoadedTable:
    """The columns that were asked for.

    Attributes:
        table: (N rows); of a CSV file all columns are text.
        lines: (N,) 1-based: the line of a CSV file (the header is line 1), the row of a Parquet file.
        rejects: lines of a CSV file with a wrong number of fields.
        metadata: what the file's schema says beside its columns.
    """

    table: pa.Table
    lines: NDArray[np.int64]
    rejects: tuple[Reject, ...]
    metadata: Mapping[str, str]


def column_names(path: Path) -> list[str]:
    """Names of the file's columns.

    Raises:
        SourceError: it is neither Parquet nor CSV, damaged or cut short.
    """
    with reading(path), _arrow_errors(path):
        if _is_parquet(path):
            return list(pq.read_schema(path).names)
        skipping = pa_csv.ParseOptions(delimiter=_delimiter(path), invalid_row_handler=lambda _: "skip")
        with _unpacked(path) as stream, pa_csv.open_csv(stream, parse_options=skipping) as reader:
            return list(reader.schema.names)


def load_table(path: Path, columns: list[str]) -> LoadedTable:
    """Read these columns.

    Raises:
        SourceError: damaged or cut short.
    """
    with reading(path), _arrow_errors(path):
        if _is_parquet(path):
            table = pq.read_table(path, columns=columns)
            metadata = {_text(k): _text(v) for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
            return LoadedTable(table, np.arange(1, table.num_rows + 1), (), metadata)
        return _load_csv(path, columns)


def renamed(names: list[str], mapping: Mapping[str, str], known: frozenset[str], where: str) -> dict[str, str]:
    """Our column -> theirs, for every column of ours that the file has.

    Args:
        names: the file's columns. mapping: our column -> theirs, as the caller said; others are taken by name.
        known: our columns. where: for errors.

    Raises:
        ConfigError: the mapping names a column that we, or the file, do not have.
    """
    for ours, theirs in mapping.items():
        if ours not in known:
            raise ConfigError(f"--map: {ours!r} is no column of ours", where=where, hint=", ".join(sorted(known)))
        if theirs not in names:
            raise ConfigError(f"--map: the file has no column {theirs!r}", where=where, hint=", ".join(names))
    taken = set(mapping.values())
    return {**{n: n for n in names if n in known and n not in taken}, **mapping}


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC or path.suffix == ".parquet"


def _unpacked(path: Path) -> Any:
    return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)


def _delimiter(path: Path) -> str:
    """A comma, or a tab where the header has one."""
    with _unpacked(path) as stream:
        return "\t" if b"\t" in bytes(stream.read(_HEADER_BYTES)).partition(b"\n")[0] else ","


class _arrow_errors:
    """Turn Arrow's errors into SourceError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # An ArrowInvalid is a ValueError; ArrowIOError is an OSError, which says nothing of the file either.
        if isinstance(error, pa.ArrowException) or (isinstance(error, OSError) and error.errno is None):
            raise SourceError(
                f"{self.path.name} is no readable Parquet or CSV file: {str(error).splitlines()[0]}",
                where=str(self.path),
                hint="it may be cut short: fetch it again; nothing of it was kept",
            ) from None


def _load_csv(path: Path, columns: list[str]) -> LoadedTable:
    broken: dict[int, Reject] = {}

    def keep_aside(row: Any) -> str:
        # Arrow numbers rows from the header on, which is row 1.
        broken[row.number] = Reject(
            int(row.number), f"{row.actual_columns} fields instead of {row.expected_columns}", str(row.text)
        )
        return "skip"

    with _unpacked(path) as stream:
        table = pa_csv.read_csv(
            stream,
            read_options=pa_csv.ReadOptions(use_threads=False),  # only so does Arrow count the rows
            parse_options=pa_csv.ParseOptions(delimiter=_delimiter(path), invalid_row_handler=keep_aside),
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns,
                column_types={c: pa.string() for c in columns},
                strings_can_be_null=True,
                null_values=["", "NA", "NaN", "nan", "null", "NULL", "None"],
            ),
        )
    every = np.arange(2, table.num_rows + len(broken) + 2)
    lines = every[~np.isin(every, np.fromiter(broken, dtype=np.int64, count=len(broken)))]
    return LoadedTable(table, lines, tuple(broken[n] for n in sorted(broken)), {})


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
