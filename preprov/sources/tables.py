"""DAG task tables: Parquet or CSV, one task of one run a row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from preprov.contracts import Progress, Reject, SourceBatch
from preprov.model.errors import ConfigError, SourceError, WorkError
from preprov.model.resources import Resources
from preprov.model.time import epoch as seconds_of
from preprov.model.work import Schedule
from preprov.model.worktable import WorkTable, nominal_ready
from preprov.sources.building import batches, runs_frame, tasks_frame
from preprov.sources.files import digest_of
from preprov.sources.table_columns import Bools, Ints, Objects, coded, instants
from preprov.sources.table_files import LoadedTable, column_names, load_table, renamed
from preprov.sources.table_shapes import SHAPES, Reading, Rows, Shape, shape_of
from preprov.sources.zones import canonical_zone, infer_zone

_KNOWN: Final = frozenset(c for s in SHAPES for c in (*s.required, *s.optional))
_TELLING: Final = ("zone", "schedule", "scheduled_for", "submit")
_ZONE_KEYS: Final = ("zone", "timezone", "tz")
_SURE: Final = 0.5


class DagTableSource:
    """A table of DAG tasks as runs, tasks and declared schedules. See `table_shapes` for what the columns mean.

    Times are nominal: a run is known, and its roots are ready, at submit; a task is ready when its last parent ended.
    A row that cannot be used is rejected, and a parent that points to one is dropped and counted. A run whose tasks
    wait for each other in a circle is rejected with all its rows. The table is held in memory while it is read; what is
    made of it comes in batches.

    The zone of the crons is, in this order: the option, the table's `zone` column, the file's metadata (or the zone of
    its time columns, if it is not UTC), the zone in which the declared crons have their turns when the table says
    they had, UTC. A note says so where it was inferred.

    Attributes:
        key: the file's name. digest: of its bytes and the options.
        capacity: None. shape: which shape was recognised.

    Args:
        path: Parquet, or CSV with a header (gzipped or not).
        mapping: our column -> theirs, for columns with other names.
        epoch: instant of second 0, for times given in seconds; 1970, or 2018-01-01T00:00Z for the Alibaba table.
        zone: of the crons, and of times that carry none.
        likely: zones to prefer where the crons fit several equally well: the pool's, the controller's.

    Raises:
        SourceError: unreadable, or a required column is lacking. ConfigError: the mapping or the zone is wrong.
    """

    def __init__(
        self,
        path: Path | str,
        mapping: Mapping[str, str] | None = None,
        epoch: datetime | None = None,
        *,
        zone: str | None = None,
        likely: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.key = self.path.name
        self.capacity: Resources | None = None
        options = sorted((mapping or {}).items()), epoch and epoch.isoformat(), zone
        self.digest = digest_of(self.path, *options)
        names = column_names(self.path)
        self._theirs = renamed(names, mapping or {}, _KNOWN, str(self.path))
        self._shape = _recognised(self.path, names, frozenset(self._theirs))
        self.shape = self._shape.name
        self._given_zone = None if zone is None else _checked(zone, str(self.path))
        self._likely = likely
        self._zero = None if epoch is None else seconds_of(epoch)

    @cached_property
    def _found_zone(self) -> tuple[str, str]:
        """The zone and a note on it; of the table only the columns that tell it are looked at."""
        if self._given_zone is not None:
            return self._given_zone, ""
        return _zone(*self._load([c for c in _TELLING if c in self._theirs]), self._likely, str(self.path))

    @cached_property
    def zone(self) -> str:
        """IANA zone of the crons and of times that carry none. Looked for when first asked."""
        return self._found_zone[0]

    def _load(self, ours: Iterable[str]) -> tuple[pa.Table, LoadedTable]:
        """These columns by our names, and what was loaded."""
        theirs = {name: self._theirs[name] for name in ours}
        loaded = load_table(self.path, list(dict.fromkeys(theirs.values())))
        return pa.table({our: loaded.table[their] for our, their in theirs.items()}), loaded

    def read(self, progress: Progress | None = None) -> Iterator[SourceBatch]:
        """Batches of whole runs, about 50,000 tasks each, by submit time; rejects and notes come with the first.

        Raises:
            SourceError: no usable row.
        """
        tell = progress or (lambda share, text: None)
        table, loaded = self._load(self._theirs)
        tell(0.1, f"{table.num_rows:,} rows")
        rows = self._shape.rows(table, Reading(self.zone, self._zero))
        tell(0.3, "rows understood")
        made = _assemble(rows, self.zone)
        rejects = _rejects(loaded, made.reasons)
        if not len(made.work):
            raise SourceError(
                f"{self.key} holds no usable row ({len(rejects)} rejected{_most_common(rejects)})", where=str(self.path)
            )
        tell(0.5, "dependencies followed")
        notes = (*(n for n in self._found_zone[1:] if n), *made.notes)
        schedules = _schedules(made.work)
        for work, part in batches(made.work):
            imputed = {k: int(v[part].sum()) for k, v in made.imputed.items() if v[part].any()}
            tell(0.5 + 0.5 * part.stop / len(made.work), f"{part.stop:,} tasks")
            yield SourceBatch(work, schedules, rejects, notes, imputed)
            schedules, rejects, notes = (), (), ()


def _rejects(loaded: LoadedTable, reasons: Objects) -> tuple[Reject, ...]:
    where = np.flatnonzero(reasons != "")
    raw = loaded.table.take(pa.array(where)).to_pandas()
    texts = raw.to_json(orient="records", lines=True, date_format="iso").splitlines() if len(where) else []
    mine = [Reject(int(n), str(r), t) for n, r, t in zip(loaded.lines[where], reasons[where], texts, strict=True)]
    return tuple(sorted((*loaded.rejects, *mine), key=lambda r: r.line))


def _recognised(path: Path, names: list[str], ours: frozenset[str]) -> Shape:
    shape, missing = shape_of(ours)
    if missing:
        one = missing[0]
        raise SourceError(
            f"{path.name} lacks column {', '.join(missing)} of a {shape.name} DAG table; it has {', '.join(names)}",
            where=str(path),
            hint=f"if it goes by another name: --map {one}=THEIR_NAME",
        )
    return shape


def _most_common(rejects: Sequence[Reject]) -> str:
    if not rejects:
        return ""
    reasons = pd.Series([r.reason for r in rejects]).value_counts()
    return f", most for: {reasons.index[0]}"


# --------------------------------------------------------------------------- zone


def _zone(table: pa.Table, loaded: LoadedTable, likely: Sequence[str], where: str) -> tuple[str, str]:
    """(zone, a note on how it was found, if it was not simply said)."""
    if "zone" in table.column_names:
        column = coded(table["zone"])
        if len(column.words):
            return _checked(str(column.words[np.argmax(np.bincount(column.codes[column.codes >= 0]))]), where), ""
    said = [loaded.metadata[k] for k in _ZONE_KEYS if k in loaded.metadata]
    said += [str(c.type.tz) for c in table.columns if pa.types.is_timestamp(c.type) and c.type.tz]
    for name in said:
        if (zone := canonical_zone(name)) and zone != "UTC":
            return zone, f"zone {zone}, as the file says"
    guess = infer_zone(_turns(table), likely)
    if guess is None:
        return "UTC", ""
    if guess.share < _SURE:
        return "UTC", "no zone fits the crons and the times they meant: UTC is used; --tz names another"
    return guess.zone, str(guess)


def _checked(zone: str, where: str) -> str:
    name = canonical_zone(zone)
    if name is None:
        raise ConfigError(f"unknown time zone {zone!r}", where=where, hint="an IANA name such as Europe/Zurich")
    return name


def _turns(table: pa.Table) -> Iterator[tuple[str, datetime]]:
    """(cron, instant it meant), each once."""
    if not {"schedule", "scheduled_for"} <= set(table.column_names):
        return
    at, _ = instants(table["scheduled_for"], zone="UTC", zero=0.0)
    pairs = pd.DataFrame({"cron": pd.Series(coded(table["schedule"]).values(), dtype=object), "at": at})
    for cron, second in pairs.dropna().drop_duplicates().itertuples(index=False):
        if cron:
            yield cron, datetime.fromtimestamp(second, UTC)


# --------------------------------------------------------------------------- rows to runs


@dataclass(frozen=True)
class _Made:
    work: WorkTable
    reasons: Objects
    notes: tuple[str, ...]
    imputed: Mapping[str, Bools]


def _assemble(rows: Rows, zone: str) -> _Made:
    """Throw out what cannot be used, group by run in order of submit, and follow the edges to the ready times."""
    reasons = rows.reasons.copy()
    to_rejected = int(((reasons != "")[rows.parent_row] & (reasons == "")[rows.child_row]).sum())
    circles = 0
    try:
        work, kept = _work(rows, reasons, zone)
    except WorkError:  # looked for only now, for it hardly ever happens
        circular = _circular_runs(rows, reasons)
        reasons[np.isin(rows.run.codes, circular) & (reasons == "")] = "its run's tasks wait for each other in a circle"
        circles = len(circular)
        work, kept = _work(rows, reasons, zone)
    counts = (
        (rows.lost_parents, "parents that are no task of their run were dropped"),
        (to_rejected, "parents that point to a rejected row were dropped"),
        (circles, "runs with a circle of dependencies were rejected"),
        (int(rows.ongoing[kept].sum()), "tasks had not ended when the table was written: their runtime is not known"),
    )
    notes = tuple(f"{n:,} {text}" for n, text in counts if n)
    return _Made(work, reasons, notes, {k: v[kept] for k, v in rows.imputed.items()})


def _work(rows: Rows, reasons: Objects, zone: str) -> tuple[WorkTable, Ints]:
    """The usable rows as a WorkTable, and which rows they are.

    Raises:
        WorkError: the edges contain a circle.
    """
    usable = reasons == ""
    kept = np.flatnonzero(usable)
    run, order = _by_submit(rows.run.codes[kept], rows.run_columns["submit"][kept])
    kept = kept[order]
    position = np.full(len(reasons), -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    whole = usable[rows.parent_row] & usable[rows.child_row]
    parents, children = position[rows.parent_row[whole]], position[rows.child_row[whole]]
    runs = _runs(rows, kept, run, zone)
    tasks = {k: v[kept] for k, v in rows.task_columns.items()}
    tasks |= {"run": run, "task_id": rows.task.values()[kept]}
    with np.errstate(invalid="ignore"):  # what waits for a task without an end is not known to become ready
        tasks["ready_at"] = nominal_ready(runs["due"].to_numpy(), tasks["runtime_s"], run, parents, children)
    return WorkTable(runs, tasks_frame(len(kept), tasks), parents, children), kept


def _circular_runs(rows: Rows, reasons: Objects) -> Ints:
    """Codes of the runs whose edges contain a circle: those with a strong component of several tasks, or a loop."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    usable = reasons == ""
    whole = usable[rows.parent_row] & usable[rows.child_row]
    parents, children = rows.parent_row[whole], rows.child_row[whole]
    graph = coo_array((np.ones(len(parents), dtype=np.int8), (parents, children)), shape=(len(reasons), len(reasons)))
    _, component = connected_components(graph.tocsr(), directed=True, connection="strong")
    return np.unique(rows.run.codes[parents[component[parents] == component[children]]])


def _by_submit(codes: Ints, submit: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """Number the runs by their earliest submit.

    Returns:
        (K,) run number of each row after sorting, and (K,) the order that sorts the rows by it, else as they stood.
    """
    dense, _ = pd.factorize(codes)
    earliest = np.full(int(dense.max(initial=-1)) + 1, np.inf)
    np.minimum.at(earliest, dense, submit)
    rank = np.empty(len(earliest), dtype=np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(len(earliest))
    number = rank[dense]
    order = np.argsort(number, kind="stable")
    return number[order], order


def _runs(rows: Rows, kept: Ints, run: Ints, zone: str) -> pd.DataFrame:
    n = int(run[-1]) + 1 if len(run) else 0
    first = kept[np.searchsorted(run, np.arange(n))]
    columns: dict[str, Any] = {k: v[first] for k, v in rows.run_columns.items()}
    submit = np.full(n, np.inf)
    np.minimum.at(submit, run, rows.run_columns["submit"][kept])
    columns |= {"run_id": rows.run.values()[first], "submit": submit}
    own = columns.get("zone", np.full(n, "", dtype=object))
    columns["zone"] = np.where(own == "", zone, own)
    return runs_frame(n, columns)


def _schedules(work: WorkTable) -> tuple[Schedule, ...]:
    """What the last run of each DAG that has a cron says of it; the caller says of which pool."""
    declared = work.runs[work.runs["schedule"] != ""].drop_duplicates("dag_id", keep="last").sort_values("dag_id")
    return tuple(
        Schedule(r["dag_id"], "", r["schedule"], r["zone"], tenant=r["tenant"], priority=int(r["priority"]))
        for r in declared.to_dict("records")
    )
