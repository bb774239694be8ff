"""Reactions as the long-lived loop makes them: what comes unforeseen is learnt, and nodes are kept ready for it."""

from preprov.model.plans import ActionKind
from preprov.model.pools import Objective
from tests.unit.control.world import World, dag, make_pool, make_world, task

BURST = tuple(task(f"t{i}", seconds=30, cpu=4) for i in range(3))


def waits(world: World) -> list[list[float]]:
    runs = sorted(world.ctx.ports.work.runs("p"), key=lambda r: r.submitted_at)
    tasks = [(r, world.ctx.ports.work.task_runs([r.run_id])) for r in runs]
    return [sorted((t.started_at - r.submitted_at).total_seconds() for t in ts if t.started_at) for r, ts in tasks]


def test_what_keeps_coming_unforeseen_is_kept_ready_for_in_the_end():
    world = make_world(make_pool(objective=Objective(hit_rate=0.9)))
    for number in range(12):
        world.submit(dag(f"burst-{number}", *BURST))
        world.run_for(120)
    found = waits(world)
    assert min(found[0]) > 10, "nothing was known of the first"
    assert all(len(w) == 3 and w[1] == 0 and w[2] <= 30 for w in found[-4:]), "two nodes stand ready for each burst"
    told = [r.action.numbers.get("surprise_nodes", 0) for r in world.ctx.ports.audit.records("p")]
    assert max(told) == 2
    assert {r.action.kind for r in world.ctx.ports.audit.records("p")} >= {ActionKind.LAUNCH, ActionKind.TERMINATE}
