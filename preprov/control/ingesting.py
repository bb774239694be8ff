"""Bring history into the store: runs from logs and tables, or a demand series."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from preprov.contracts import IngestResult, Progress, Reject, SourceBatch, WorkSource
from preprov.control.context import Context
from preprov.model.agent import Usage
from preprov.model.errors import SourceError
from preprov.model.series import SeriesHistory

_READ = "source-read"
RejectSink = Callable[[tuple[Reject, ...]], None]


@dataclass
class _Tally:
    """What passed through on the way to the store."""

    rejects: int = 0
    notes: tuple[str, ...] = ()
    usage: list[tuple[str, Usage]] = field(default_factory=list)


def ingest_work(
    ctx: Context, pool: str, source: WorkSource, *, sink: RejectSink | None = None, progress: Progress | None = None
) -> IngestResult:
    """Write everything the source holds into the pool's history, or nothing.

    Args:
        ctx: the context.
        pool: name of the pool.
        source: what is read.
        sink: takes the rejects as they come (a file); they are counted anyway.
        progress: told how far it is.

    Raises:
        SourceError: unreadable as a whole, or no usable row; the store is then as it was.
    """
    has_read(ctx, pool, source.key)
    done = ctx.ports.work.ingested(pool, source.digest)
    if done is not None:  # before anything of its content is looked at
        return done
    tally = _Tally()

    def batches() -> Iterator[SourceBatch]:
        for batch in source.read(progress):
            tally.rejects += len(batch.rejects)
            tally.notes += tuple(n for n in batch.notes if n not in tally.notes)
            if batch.rejects and sink is not None:
                sink(batch.rejects)
            if batch.schedules:
                batch = replace(batch, schedules=tuple(replace(s, pool=pool) for s in batch.schedules))
            tally.usage += batch.usage
            yield batch
        # Read to the end, and not yet in the store: what breaks off here is read again, and a sample that stands twice
        # counts once.
        ctx.ports.samples.append(pool, tally.usage)

    result = ctx.ports.work.ingest(pool, source.key, source.digest, batches(), zone=source.zone)
    forget(ctx, pool)
    has_read(ctx, pool, source.key)
    notes = tuple(dict.fromkeys((*result.notes, *tally.notes)))
    return replace(result, rejects=tally.rejects, notes=notes, samples=len(tally.usage))


def ingest_series(ctx: Context, pool: str, key: str, digest: str, series: SeriesHistory) -> IngestResult:
    """Keep a demand series as the pool's history.

    Raises:
        SourceError: it holds no value.
    """
    if not len(series.values):
        raise SourceError("the series holds no value", where=key)
    result = ctx.ports.work.write_series(pool, key, digest, series)
    forget(ctx, pool)
    return result


def has_read(ctx: Context, pool: str, source: str, at: datetime | None = None) -> None:
    """Remember that a source of the pool was read, now or at an instant."""
    now = at or ctx.clock.now()
    _instants(ctx.memo.setdefault((pool, _READ), (now, {}))[1])[source] = now


def source_age_s(ctx: Context, pool: str) -> float:
    """Seconds since the source of the pool that was read longest ago; 0 for a pool that is fed by submission alone."""
    held = ctx.memo.get((pool, _READ))
    read = list(_instants(held[1]).values()) if held else []
    return (ctx.clock.now() - min(read)).total_seconds() if read else 0.0


def _instants(read: object) -> dict[str, datetime]:
    """When each source of a pool was last read, as it is remembered."""
    return read if isinstance(read, dict) else {}


def forget(ctx: Context, pool: str) -> None:
    """Drop what was learnt of a pool, because its history has changed."""
    for what in ("runtimes", "learnt"):
        ctx.memo.pop((pool, what), None)
