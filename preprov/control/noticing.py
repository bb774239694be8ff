"""A run that is unlike those before it is told as it ends: one row of the audit, with the command that shows its curve.

Of two tasks in a round of dispatch; with more that end in one, `preprov task show` tells of the rest when it is asked.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from preprov.control.context import Context
from preprov.control.lifecycle import Live
from preprov.control.machines import as_on, largest
from preprov.control.measuring import usage_runs
from preprov.control.phased import note
from preprov.model.nodes import PoolObservation
from preprov.model.plans import ActionKind
from preprov.model.pools import Pool
from preprov.model.work import State, TaskRun
from preprov.profiles.oddities import DRIFT, SortedOut, sort_out

_A_ROUND: Final = 2
_BACK: Final = timedelta(days=400)


def notice(ctx: Context, pool: Pool, before: Live, after: Live, observation: PoolObservation, now: datetime) -> None:
    """Look at what has ended well between the two, if it was watched."""
    ended: dict[tuple[str, str, str], list[TaskRun]] = {}
    for key, task in after.tasks.items():
        if task.state is State.SUCCEEDED and before.tasks[key].state is not State.SUCCEEDED:
            ended.setdefault((after.runs[task.run_id].dag_id, task.task_id, task.signature), []).append(task)
    looks = _A_ROUND
    for (dag, _, _), tasks in ended.items():
        claimants = {t.claimant(i): t for t in tasks for i in range(t.spec.instances)}
        if not any(s.samples for s in ctx.ports.samples.summaries(list(claimants)).values()):
            continue
        _look(ctx, pool, dag, claimants, observation, now)
        looks -= 1
        if not looks:
            return


def _look(
    ctx: Context, pool: Pool, dag: str, ended: dict[str, TaskRun], observation: PoolObservation, now: datetime
) -> None:
    task, nodes = next(iter(ended.values())), {n.node_id: n for n in observation.nodes}
    every = usage_runs(ctx, pool, dag=dag, task=task.task_id, since=now - _BACK, until=now, elsewhere=False)
    same = [(i, u) for i, u in every if i.signature == task.signature]
    there = nodes.get(task.node_id or "")
    kind = there.offering.instance_type if there is not None else largest(pool).instance_type
    found = sort_out(as_on(ctx, pool, [u for _, u in same], kind))
    for place, (instance, _) in enumerate(same):
        of = ended.get(instance.claimant)
        node = nodes.get(of.node_id or "") if of is not None else None
        if of is None or node is None:
            continue
        why = _why(found, place, [i.claimant for i, _ in same])
        if why:
            told = f"{why}; preprov task show {of.run_id}/{of.task_id}"
            odd = found.odd.get(place, ())
            used, usual = {o.what: o.used for o in odd}, {o.what: o.usual for o in odd}
            note(ctx, pool, instance.claimant, node, (ActionKind.ODD, told), used=used, usual=usual)


def _why(found: SortedOut, place: int, claimants: Sequence[str]) -> str:
    """In words; "" if it is as usual."""
    if place in found.odd:
        how = "; ".join(o.words() for o in found.odd[place])
        return f"unlike the runs before it, and not learnt from: {how}"
    if found.since and found.kept[DRIFT - 1] == place:
        return (
            f"the third in a row that is unlike those before: what has run since {claimants[found.since]} is usual now"
        )
    return ""
