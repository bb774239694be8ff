"""One running task whose allocation follows its use: what is known of it, how it is changed, and the record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from preprov.contracts import ResourceAdjuster, TaskReport
from preprov.control.context import Context
from preprov.control.outlooks import Curves
from preprov.model.agent import Underway
from preprov.model.errors import NotFoundError, PoolError, RefusedError
from preprov.model.nodes import Node
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation
from preprov.model.resources import Resources
from preprov.model.work import TaskRun
from preprov.planning.adjustment import ADJUSTED, Track

log = structlog.get_logger(__name__)

SAME: Final = 0.01
"""Amounts that differ by a smaller share are the same."""


@dataclass
class Kept:
    """What is remembered of one running task between two looks; lost with the process, and then nothing is hasty.

    Attributes:
        track: what it uses. read_at: epoch seconds of the last look. throttled_s: as it was then.
        renewed_at: when its limits were set last. curves: of its past runs; None = not learnt yet.
        given_up: nothing is changed any more.
        looked_again: its curves know how it began. first_limit_s: its time limit as it was.
        lowering: what it is to have, where its node lowers it later. told: what of a change was recorded already.
        impossible: of a resource, the least amount that its node was found not to be able to give.
    """

    track: Track = field(default_factory=Track)
    read_at: float = 0.0
    throttled_s: float = 0.0
    renewed_at: float | None = None
    curves: Curves | None = None
    looked_again: bool = False
    given_up: bool = False
    first_limit_s: float | None = None
    lowering: Resources | None = None
    told: Underway | None = None
    impossible: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """One running instance: what is known of it from all sides."""

    task: TaskRun
    claim: Reservation
    report: TaskReport
    node: Node
    adjuster: ResourceAdjuster
    kept: Kept

    @property
    def name(self) -> str:
        """The claimant."""
        return self.report.claimant


def like(limit: float | None, amount: float) -> bool:
    """Whether a limit is that amount; what is not limited is not."""
    return amount <= 0 or (limit is not None and abs(limit - amount) <= SAME * amount)


def attempted(claimant: str, node: Node, what: Callable[[], object]) -> bool:
    """Do it; False if that failed, which the log says unless it was refused."""
    try:
        what()
    except (NotFoundError, RefusedError):
        return False
    except PoolError as e:
        log.warning("limits not set", claimant=claimant, node=node.node_id, why=str(e))
        return False
    return True


def record(
    ctx: Context,
    pool: Pool,
    r: Running,
    kind: ActionKind,
    why: str,
    now: datetime,
    result: str,
    detail: str,
    amount: Resources,
) -> ActionRecord:
    """Put into the audit what was done to it, why, and what it has then."""
    before = r.claim.most
    numbers = {f"{k}_{when}": getattr(a, k) for when, a in (("before", before), ("after", amount)) for k in ADJUSTED}
    action = Action(
        stable_id(pool.name, str(kind), r.name, now.isoformat(), why),
        kind,
        now,
        r.node.group,
        1,
        why,
        offering=r.node.offering.key,
        node_ids=(r.node.node_id,),
        numbers=numbers,
        task=r.name,
    )
    row = ActionRecord(action, pool.name, "", ctx.actor, now, result, detail, (r.node.node_id,))
    ctx.ports.audit.record(row)
    return row
