"""Start what has been given a place: claimed softly, committed, and run by the scheduler of its node."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from preprov.contracts import StartsSideBySide
from preprov.control.allocating.tasks import Tasks
from preprov.control.context import Context
from preprov.control.phased import flat_segments
from preprov.model.errors import PoolError, ReservationError
from preprov.model.nodes import Node
from preprov.model.plans import stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Purpose, Reservation, Segment
from preprov.model.work import DagRun, State, TaskRun

log = structlog.get_logger(__name__)

_SOFT_GRACE: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Start:
    """An instance that is to run on a node.

    Attributes:
        under: a booking's id. segments: what it claims over time; None = what it asks for.
    """

    run: DagRun
    task: TaskRun
    instance: int
    node: Node
    under: str = ""
    segments: tuple[Segment, ...] | None = None

    @property
    def claimant(self) -> str:
        """Of its claim."""
        return self.task.claimant(self.instance)


def start_all(ctx: Context, pool: Pool, starts: Sequence[Start], now: datetime) -> list[str]:
    """Start them; what is not started is left ready for the next round.

    What goes to one node is started in this order, and nodes one after the other unless their scheduler says that it
    can do several at once.

    Returns:
        Claimants of those that were started.
    """
    started: list[str] = []
    for s in _begun(ctx, pool, starts, now):
        started.append(s.claimant)
        _note(ctx, pool, s, now)
    return started


def _begun(ctx: Context, pool: Pool, starts: Sequence[Start], now: datetime) -> Iterator[Start]:
    """Those that were started, as soon as that is known."""
    several: dict[str, list[Start]] = {}
    widths = {0}
    for s in starts:
        scheduler: object = ctx.schedulers.get(pool.group(s.node.group).provider)
        if isinstance(scheduler, StartsSideBySide):
            several.setdefault(s.node.node_id, []).append(s)
            widths.add(scheduler.at_once)
        elif scheduler is not None and _begin(ctx, pool, s, now):
            yield s
    if len(several) < 2:
        yield from (s for group in several.values() for s in group if _begin(ctx, pool, s, now))
        return
    with ThreadPoolExecutor(min(len(several), max(widths))) as threads:
        for done in threads.map(lambda group: [s for s in group if _begin(ctx, pool, s, now)], several.values()):
            yield from done


def _begin(ctx: Context, pool: Pool, s: Start, now: datetime) -> bool:
    """Reserve, commit and start one; touches nothing but the books and the node."""
    tasks = Tasks(ctx, known={s.claimant: (s.task, s.instance)})
    wanted = soft(pool, s.task, s.instance, now, s.under, s.segments)
    try:
        tasks.allocate(pool, tasks.reserve(pool, wanted, exact=s.segments is not None), s.node)
    except ReservationError as e:
        log.warning("not committed", claimant=s.claimant, node=s.node.node_id, why=str(e))
        return False
    except PoolError as e:
        log.warning("not started", claimant=s.claimant, node=s.node.node_id, why=str(e))
        return False
    return True


def _note(ctx: Context, pool: Pool, s: Start, now: datetime) -> None:
    """The first instance of a task that starts says when it did, and how long it waited."""
    if s.task.state is State.RUNNING:
        return
    wait_s, slot_at = _waited(ctx, pool, s.task, s.instance, now)
    first = replace(
        s.task,
        state=State.RUNNING,
        started_at=s.task.started_at or now,
        node_id=s.node.node_id,
        provision_wait_s=wait_s,
        slot_at=slot_at,
    )
    ctx.ports.work.save_tasks([first])
    if s.run.state is State.PENDING:
        ctx.ports.work.save_run(s.run.run_id, State.RUNNING, None)


def soft(
    pool: Pool,
    task: TaskRun,
    instance: int,
    start: datetime,
    under: str = "",
    segments: tuple[Segment, ...] | None = None,
) -> Reservation:
    """A claim of an instance: its curve if that is known, and then void soon after its start if it does not come."""
    claimant = task.claimant(instance)
    flat = flat_segments(task, start)
    return Reservation(
        reservation_id=stable_id(pool.name, claimant, start.isoformat(), *([under] if under else [])),
        pool=pool.name,
        claimant=claimant,
        segments=segments or flat,
        tenant=task.tenant,
        priority=task.priority,
        expires_at=(flat[-1].end if segments is None else start) + _SOFT_GRACE,
        created_at=start,
        purpose=Purpose.TASK,
        under=under,
    )


def remember(
    ctx: Context, pool: Pool, what: str, wanting: Collection[str], claimants: Collection[str], now: datetime
) -> None:
    """Note when claimants last waited: "short" = no node had room, a provision wait; "held" = not theirs to start yet.

    Those that want nothing any more are forgotten.
    """
    before = {c: at for c, at in _remembered(ctx, pool, what).items() if c in wanting}
    ctx.memo[(pool.name, what)] = (now, {**before, **dict.fromkeys(claimants, now)})


def _remembered(ctx: Context, pool: Pool, what: str) -> dict[str, datetime]:
    held = ctx.memo.get((pool.name, what))
    return held[1] if held else {}  # type: ignore[return-value]


def _waited(ctx: Context, pool: Pool, task: TaskRun, instance: int, now: datetime) -> tuple[float, datetime | None]:
    """(seconds of provision wait, when nothing but room was wanting) of an instance that starts now."""
    claimant = task.claimant(instance)
    short, held = (
        _remembered(ctx, pool, "short").pop(claimant, None),
        _remembered(ctx, pool, "held").pop(claimant, None),
    )
    if task.ready_at is None:
        return 0.0, None
    wait_s = 0.0 if short is None else max((now - task.ready_at).total_seconds(), 0.0)
    if held is None:
        return wait_s, task.ready_at
    return wait_s, held if short is not None and short > held else now
