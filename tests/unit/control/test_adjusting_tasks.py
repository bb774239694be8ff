"""Running tasks get more, or less, or go elsewhere; ledger, node and record agree, and nothing is overbooked."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.control import halting
from preprov.control.passes import pool_pass
from preprov.control.why import why_node, why_run
from preprov.model.adjusting import Adjustable, Adjusting
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.plans import ActionKind
from preprov.model.pools import Group, Mode, Pool
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources, sum_of
from preprov.model.work import State, TaskRun
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import World, dag, make_pool, make_world, task

MANNER = Adjusting(calm_s=30, every_s=10, ahead_s=20)


@dataclass
class Stage:
    """A world whose tasks use what a script says."""

    world: World
    sim: AdjustableSim

    def claims(self) -> dict[str, Resources]:
        live = self.world.ctx.ports.ledger.reservations("p")
        return {r.claimant: r.most for r in live if r.state is ReservationState.COMMITTED}

    def rows(self, kind: ActionKind):
        return [r for r in self.world.ctx.ports.audit.records("p") if r.action.kind is kind]

    def run(self, seconds: float, **more: object) -> None:
        self.world.run_for(seconds, **more)  # type: ignore[arg-type]
        self.nothing_is_overbooked()

    def nothing_is_overbooked(self, *_: object) -> None:
        on: dict[str, list[Resources]] = {}
        for r in self.world.ctx.ports.ledger.reservations("p"):
            if r.state is ReservationState.COMMITTED:
                on.setdefault(r.node_id or "", []).append(r.most)
        sizes = {n.node_id: n.offering.allocatable for n in self.world.cloud.observe(self.world.pool).nodes}
        for node, amounts in on.items():
            assert sum_of(amounts).fits_in(sizes[node], ("cpu", "memory"))


def stage(load: Callable[[TaskRun, float], Resources], pool: Pool | None = None, **more: object) -> Stage:
    made = pool or make_pool(adjusting=MANNER)
    world = make_world(made)
    sim = AdjustableSim(world.clock, world.cloud, load=load, **more)  # type: ignore[arg-type]
    return Stage(replace(world, ctx=replace(world.ctx, schedulers={"sim": sim}), scheduler=sim), sim)


def flat(cpu: float, memory: float) -> Callable[[TaskRun, float], Resources]:
    return lambda _, __: Resources(cpu=cpu, memory=memory)


def test_a_task_that_wants_more_gets_it_and_everybody_can_see_why():
    s = stage(flat(2.0, 1.0))
    (run,) = s.world.submit(dag("etl", task("a", seconds=600)))
    s.run(300)
    (claim,) = s.claims().items()
    assert claim[1].cpu >= 2.25
    assert s.sim.limits[claim[0]] == claim[1]
    rows = [r for r in s.rows(ActionKind.RESIZE) if r.result == "done"]
    assert "cpu 1 -> 2" in rows[0].action.reason
    assert "2 cores in use of 1 cores" in rows[0].action.reason
    assert rows[0].action.task == claim[0]
    assert rows[0].action.numbers["cpu_after"] > rows[0].action.numbers["cpu_before"] == 1
    told = [e for e in why_run(s.world.ctx, run.run_id).events if e.what.startswith("resize")]
    assert claim[0] in told[0].what
    assert "in use of" in told[0].why
    node = rows[0].node_ids[0]
    assert any(e.what.startswith("resize") for e in why_node(s.world.ctx, node).events)


def test_what_a_task_does_not_use_goes_to_one_that_waits():
    s = stage(flat(0.5, 1.0), make_pool(adjusting=MANNER, groups=(small(1),)))
    s.world.submit(dag("wide", task("a", cpu=4, seconds=3000)))
    s.run(120)
    s.world.submit(dag("late", task("b", cpu=2, seconds=3000)))
    s.run(120)
    assert {c.split("/")[1] for c in s.claims()} == {"a#0", "b#0"}
    assert s.world.nodes() == 1


class Booked(AdjustableSim):
    """One whose tasks' requests stand in somebody else's books, as Slurm's do."""

    def adjustable(self, node: Node) -> Adjustable:
        return replace(super().adjustable(node), booked=True)


def test_what_somebody_else_keeps_for_a_task_is_not_taken_and_what_it_had_on_top_is():
    s = stage(lambda _, at: Resources(cpu=0.1, memory=3.0 if at < 200 else 0.1))
    sim = Booked(s.world.clock, s.world.cloud, load=s.sim.load)
    s = Stage(replace(s.world, ctx=replace(s.world.ctx, schedulers={"sim": sim}), scheduler=sim), sim)
    s.world.submit(dag("etl", task("a", cpu=2, seconds=3000)))
    s.run(240)
    (most,) = s.claims().values()
    assert (most.cpu, most.memory >= 3.0) == (2, True)
    s.run(1200)
    assert list(s.claims().values()) == [Resources(cpu=2, memory=2)], "as it asked for, and no less"


def test_without_the_setting_nothing_is_touched():
    s = stage(flat(2.0, 1.0), make_pool())
    s.world.submit(dag("etl", task("a", seconds=600)))
    s.run(300)
    assert s.sim.calls == []
    assert list(s.claims().values()) == [Resources(cpu=1, memory=1)]


def test_limits_are_what_was_asked_for_until_something_is_known():
    s = stage(flat(0.9, 0.85), make_pool(adjusting=replace(MANNER, increase=False, decrease=False)))
    s.world.submit(dag("etl", task("a", seconds=600)))
    s.run(200)
    assert list(s.sim.limits.values()) == [Resources(cpu=1, memory=1)]
    assert not s.rows(ActionKind.RESIZE)


def test_a_mode_that_may_only_raise_takes_nothing():
    s = stage(flat(0.1, 0.1), make_pool(adjusting=MANNER, mode=Mode.FLOOR))
    s.world.submit(dag("etl", task("a", cpu=2, seconds=900)))
    s.run(600)
    assert list(s.claims().values()) == [Resources(cpu=2, memory=2)]
    raised = stage(flat(2.0, 1.0), make_pool(adjusting=MANNER, mode=Mode.FLOOR))
    raised.world.submit(dag("etl", task("a", cpu=1, seconds=900)))
    raised.run(600)
    assert next(iter(raised.claims().values())).cpu > 2


def test_a_halt_stops_it_and_a_release_gives_back():
    s = stage(flat(0.1, 0.1))
    s.world.submit(dag("etl", task("a", cpu=2, seconds=9000)))
    s.run(120)
    assert s.sim.limits
    halting.halt(s.world.ctx, "stop")
    before = (dict(s.sim.limits), len(s.sim.calls))
    s.run(300)
    assert (dict(s.sim.limits), len(s.sim.calls)) == before
    halting.halt(s.world.ctx, "give back", release=True)
    assert s.sim.limits == {}


def test_a_pool_that_is_not_adjusted_any_more_gives_back():
    s = stage(flat(0.1, 0.1))
    s.world.submit(dag("etl", task("a", cpu=2, seconds=9000)))
    s.run(120)
    assert s.sim.limits
    pool = replace(s.world.pool, adjusting=None)
    pool_pass(replace(s.world.ctx, pools={"p": pool}), pool, plan=False)
    assert s.sim.limits == {}


def test_a_node_that_does_not_answer_leaves_the_books_as_they_were():
    s = stage(flat(2.0, 1.0))
    s.world.submit(dag("etl", task("a", seconds=900)))
    s.run(75)
    s.sim.broken = True
    before = s.claims()
    s.run(60)
    assert s.claims() == before
    assert {r.result for r in s.rows(ActionKind.RESIZE)[-2:]} == {"failed"}
    s.sim.broken = False
    s.run(60)
    assert s.claims() != before


def test_a_tenant_gets_no_more_than_its_quota():
    from preprov.control.context import Tenant

    s = stage(flat(4.0, 1.0))
    s.world.ctx.tenants.update({"default": Tenant(quota={"cpu": 1.5})})  # type: ignore[attr-defined]
    s.world.submit(dag("etl", task("a", seconds=900)))
    s.run(300)
    assert sum(c.cpu for c in s.claims().values()) <= 1.5


def test_a_time_limit_is_extended_before_it_ends_the_task_but_not_for_ever():
    s = stage(flat(0.8, 0.8))
    s.sim.time_limits = {"long": 100.0, "endless": 100.0}
    (long,) = s.world.submit(dag("etl", task("long", seconds=350)))
    (endless,) = s.world.submit(dag("loop", task("endless", seconds=9000)))
    s.run(1000)
    assert s.world.ctx.ports.work.run(long.run_id).state is State.SUCCEEDED
    assert s.world.ctx.ports.work.run(endless.run_id).state is State.FAILED, "four times its limit is the most"
    assert s.sim.time_limits["endless"] == 400
    assert any("time limit" in r.action.reason for r in s.rows(ActionKind.RESIZE))


def late_load(_: TaskRun, seconds: float) -> Resources:
    """Little for 200 s, then much."""
    return Resources(cpu=0.5, memory=1) if seconds < 200 else Resources(cpu=3, memory=6)


def test_what_past_runs_did_is_met_before_it_comes():
    """The first run is held back when its load leaps; once three were watched, the next has what it needs by then."""
    s = stage(late_load)
    runs = []
    for _ in range(5):
        (run,) = s.world.submit(dag("etl", replace(task("a", seconds=400), request=Resources(cpu=2, memory=8))))
        s.run(640)
        runs.append(run.run_id)

    def changes(run_id: str):
        (told,) = s.world.ctx.ports.work.task_runs([run_id])
        rows = [r for r in s.rows(ActionKind.RESIZE) if r.action.task.startswith(run_id)]
        return [((r.at - told.started_at).total_seconds(), r.action) for r in rows]

    assert not any("past runs" in a.reason for _, a in changes(runs[0]))
    last = changes(runs[-1])
    ahead = [at for at, a in last if "past runs reach" in a.reason]
    assert ahead
    assert min(ahead) < 200
    at_the_leap = [a for at, a in last if at < 200][-1]
    assert at_the_leap.numbers["cpu_after"] >= 3
    assert all(a.numbers["memory_after"] >= 6 for _, a in last), "what is to come is not taken"
    assert min(a.numbers["memory_after"] for _, a in changes(runs[0])) < 6


# ---- memory that is about to be full


def small(count: int, **more: object) -> Group:
    node = Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2)
    return Group(
        "g", "sim", (node,), standby_states=frozenset({Standby.RUNNING}), max_nodes=count,
        lead={Standby.COLD: LeadTime(60, 90)}, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def grows(task_: TaskRun, seconds: float) -> Resources:
    """One task's memory grows by 3 GiB a minute; the others are as they are."""
    return Resources(cpu=0.9, memory=4 + seconds / 20 if task_.task_id == "grows" else 9)


def test_growing_memory_is_raised_before_it_is_full():
    s = stage(grows)
    (run,) = s.world.submit(dag("leak", replace(task("grows", seconds=180), request=Resources(cpu=1, memory=5))))
    stalled = []
    s.run(300, each=lambda r: stalled.extend(x.bounds.stalled for x in s.sim.poll(r.observation.nodes) if x.bounds))
    assert not any(stalled)
    assert s.world.ctx.ports.work.run(run.run_id).state is State.SUCCEEDED
    assert any("full in" in r.action.reason for r in s.rows(ActionKind.RESIZE))


def test_one_that_cannot_grow_where_it_is_goes_on_elsewhere():
    s = stage(grows, make_pool(adjusting=MANNER, groups=(small(2),)))
    s.world.submit(dag("fill", replace(task("other", seconds=3000), request=Resources(cpu=1, memory=11.5))))
    s.run(90)
    (run,) = s.world.submit(dag("leak", replace(task("grows", seconds=170), request=Resources(cpu=1, memory=4.5))))
    s.run(700)
    (moved,) = s.rows(ActionKind.MOVE)
    assert "its node has no room" in moved.action.reason
    told = s.world.ctx.ports.work.task_runs([run.run_id])[0]
    assert (told.state, told.attempt) == (State.SUCCEEDED, 2)
    assert told.spec.retries == 0
    assert told.node_id != moved.node_ids[0]
    assert sum(c == ("checkpoint", moved.action.task) for c in s.sim.calls) >= 1


def test_no_task_is_ended_where_things_may_only_be_raised_or_the_pool_forbids_it():
    for more in ({"mode": Mode.FLOOR}, {"adjusting": replace(MANNER, move=False)}):
        s = stage(grows, make_pool(**{"adjusting": MANNER, "groups": (small(2),), **more}))
        s.world.submit(dag("fill", replace(task("other", seconds=3000), request=Resources(cpu=1, memory=11.5))))
        s.run(90)
        (run,) = s.world.submit(dag("leak", replace(task("grows", seconds=170), request=Resources(cpu=1, memory=4.5))))
        s.run(400)
        assert not s.rows(ActionKind.MOVE)
        assert s.world.ctx.ports.work.task_runs([run.run_id])[0].attempt == 1


def test_one_that_does_not_keep_what_it_has_done_is_made_to_end_and_moves_too():
    s = stage(grows, make_pool(adjusting=MANNER, groups=(small(2),)), saves=False)
    s.world.submit(dag("fill", replace(task("other", seconds=3000), request=Resources(cpu=1, memory=11.5))))
    s.run(90)
    (run,) = s.world.submit(dag("leak", replace(task("grows", seconds=170), request=Resources(cpu=1, memory=4.5))))
    s.run(900)
    told = s.world.ctx.ports.work.task_runs([run.run_id])[0]
    assert (told.state, told.attempt) == (State.SUCCEEDED, 2)


def test_where_no_node_could_hold_it_the_node_decides():
    s = stage(lambda t, _: Resources(cpu=0.5, memory=40), make_pool(adjusting=MANNER, groups=(small(1),)))
    s.world.submit(dag("huge", replace(task("a", seconds=600), request=Resources(cpu=1, memory=12))))
    s.run(400)
    assert not s.rows(ActionKind.MOVE)
    assert s.sim.limits == {}
    assert sum("limits are lifted" in r.action.reason for r in s.rows(ActionKind.RESIZE)) == 1


# ---- whatever they use


@settings(max_examples=5, deadline=None)
@given(
    loads=st.lists(
        st.lists(st.tuples(st.floats(0.05, 5), st.floats(0.1, 18)), min_size=1, max_size=6), min_size=1, max_size=5
    ),
    asks=st.lists(st.sampled_from((1, 2, 3)), min_size=5, max_size=5),
)
def test_no_node_is_ever_overbooked_and_every_task_ends(loads, asks):
    def load(t: TaskRun, seconds: float) -> Resources:
        steps = loads[int(t.task_id[1:])]
        cpu, memory = steps[int(seconds // 40) % len(steps)]
        return Resources(cpu=cpu, memory=memory)

    s = stage(load, make_pool(adjusting=MANNER, groups=(small(2),)))
    tasks = [task(f"t{i}", cpu=asks[i], seconds=200, retries=2) for i in range(len(loads))]
    s.world.submit(dag("any", *tasks))
    s.world.run_for(1200, plan_every=120, each=s.nothing_is_overbooked)
    states = {t.state for r in s.world.ctx.ports.work.runs("p") for t in s.world.ctx.ports.work.task_runs([r.run_id])}
    assert states == {State.SUCCEEDED}
    assert s.claims() == {}
    assert Phase.READY in {n.phase for n in s.world.cloud.observe(s.world.pool).nodes} or s.world.nodes() == 0
