"""What a running task is about to use, told from past runs of the very same task."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from preprov.control.context import Context
from preprov.control.instances import Instance, input_bytes
from preprov.control.learnt import Key, in_short, signatures_of
from preprov.control.machines import largest, machines_of
from preprov.control.measuring import usual_runs
from preprov.control.teaching_curves import vintages_of
from preprov.model.pools import Pool
from preprov.model.usage import ResourceCurve, UsageRun
from preprov.model.work import DagRun, TaskRun
from preprov.planning.adjustment import Outlook
from preprov.profiles.aligned import RESOURCES, features
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.machines import stretched
from preprov.profiles.requests import FEWEST
from preprov.profiles.sequence import SEEN_AT, Vintages

Curves: TypeAlias = Mapping[str, ResourceCurve]

_KIND: Final = "curves"
_STEPS: Final = 4
_LOW, _HIGH, _SOON, _REST = 0.05, 0.95, 0.9, 0.99


def curves_of(
    ctx: Context,
    pool: Pool,
    run: DagRun,
    task: TaskRun,
    elapsed_s: float = 0.0,
    seen: Mapping[str, float] = MappingProxyType({}),
    machine: str = "",
) -> Curves | None:
    """By resource; none where fewer than three runs of this very code and command were watched, odd ones apart.

    None as a whole: this round has learnt its share, and of this one it was not its turn. Ask again in the next.

    Args:
        ctx: the context. pool: where it runs. run, task: what runs.
        elapsed_s: for so long already. seen: what it uses now, by resource.
        machine: the kind that it runs on; "" = not known.
    """
    known = signatures_of(ctx)
    allowance = known.allowance(pool.name)
    begun: _Taught | None = ctx.memo.get((pool.name, "begun"), (None, None))[1]  # type: ignore[assignment]
    if begun is not None:
        begun.go_on(allowance.may_teach)
    taught, looked_up = known.ask(
        Key(pool.name, _KIND, run.dag_id, task.signature),
        ctx.clock.now(),
        lambda before: _learnt(ctx, pool, run, task, before),
        may=None if allowance.runs > 0 else False,
    )
    if taught is None:
        return {} if looked_up else None
    if taught.todo:  # of one at a time: runs that wait to be learnt take memory
        ctx.memo[(pool.name, "begun")] = (ctx.clock.now(), taught)
        taught.go_on(allowance.may_teach)
    sizer = taught.asked
    if sizer is None:
        return None
    new = features(replace(taught.last, input_bytes=input_bytes(task)))
    slower = machines_of(ctx, pool).factor(largest(pool).instance_type, machine) if machine else 1.0
    return {
        r: stretched(sizer.curve(new, r, (elapsed_s / slower, seen[r]) if r in seen else None), slower)
        for r in RESOURCES
        if taught.last.observed(r)
    }


def is_worth_another_look(ctx: Context, pool: Pool, curves: Curves, elapsed_s: float) -> bool:
    """True once a tenth of the usual runtime is over, where there is a model that may tell more of the rest by then."""
    if vintages_of(ctx, pool) is None:
        return False
    usual = [float(np.interp(0.5, c.levels, c.runtime_s)) for c in curves.values()]
    return bool(usual) and elapsed_s >= SEEN_AT * min(usual)


@dataclass
class _Taught:
    """The model of one signature, and runs that it is still to learn.

    Attributes:
        sizer: the model. vintages: of the sequence model in it. names: claimants of its runs, the oldest first.
        todo: the last of these, not learnt yet. last: the last of all, in short.
        before: what is asked until all were learnt once; None = nothing.
    """

    sizer: CurveSizer
    vintages: tuple[float, ...]
    names: tuple[str, ...]
    todo: deque[UsageRun]
    last: UsageRun
    before: CurveSizer | None = None
    ready: bool = False

    @property
    def asked(self) -> CurveSizer | None:
        """What may be asked now."""
        return self.sizer if self.ready else self.before

    def go_on(self, may: Callable[[], bool]) -> None:
        """Learn what is left, while one may."""
        while self.todo and may():
            self.sizer.learn(self.todo.popleft())
        if not self.todo:
            self.ready, self.before = True, None

    def take(self, same: Sequence[tuple[Instance, UsageRun]]) -> bool:
        """Those of them that are new, to be learnt; False if they do not simply follow on what is known."""
        names = tuple(i.claimant for i, _ in same)
        there = [n for n in self.names if n in set(names)]
        if not there or tuple(there) != self.names[-len(there) :] or tuple(there) != names[: len(there)]:
            return False
        self.names, self.last = names, in_short(same[-1][1])
        self.todo.extend(run for _, run in same[len(there) :])
        return True


def _learnt(ctx: Context, pool: Pool, run: DagRun, task: TaskRun, before: _Taught | None) -> _Taught | None:
    """What ended since is added; where usage drifted, or there is another sequence model, all is learnt anew."""
    same = usual_runs(ctx, pool, run.dag_id, task)
    if len(same) < FEWEST:
        return None
    vintages = vintages_of(ctx, pool)
    until = _until(vintages)
    if before is not None and before.vintages == until and before.take(same):
        return before
    cap = max(o.allocatable.memory for g in pool.groups for o in g.offerings)
    return _Taught(
        CurveSizer(_STEPS, cap, ctx.seed, vintages),
        until,
        tuple(i.claimant for i, _ in same),
        deque(u for _, u in same),
        in_short(same[-1][1]),
        before.asked if before is not None else None,
    )


def _until(vintages: Vintages | None) -> tuple[float, ...]:
    return () if vintages is None else tuple(v.until for v in vintages.kept)


def outlook(curve: ResourceCurve, elapsed_s: float, ahead_s: float) -> Outlook:
    """What a curve says of one that has run for so long; the last that it says of one that runs longer than any did."""
    at = int(np.clip(np.searchsorted(curve.at, elapsed_s, side="right") - 1, 0, len(curve.at) - 1))
    until = max(int(np.searchsorted(curve.at, elapsed_s + ahead_s, side="right")), at + 1)

    def level(q: float) -> int:
        return int(np.argmin(np.abs(curve.levels - q)))

    return Outlook(
        low=float(curve.values[at, level(_LOW)]),
        high=float(curve.values[at, level(_HIGH)]),
        soon=float(curve.values[at:until, level(_SOON)].max()),
        rest=float(curve.values[at:, level(_REST)].max()),
    )
