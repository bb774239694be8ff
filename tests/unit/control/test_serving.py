"""Places that run work on warm nodes: limits follow, workers come and leave, everything is given back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from preprov.contracts import PlaceSeen, Service
from preprov.control.adopting import release
from preprov.control.halting import halt, resume
from preprov.control.observing import observe
from preprov.model.errors import ConflictError
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node
from preprov.model.plans import ActionKind
from preprov.model.pools import Mode, Override
from preprov.model.resources import ZERO, Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.sim.scheduler import SimScheduler
from tests.unit.control.world import START, World, dag, make_pool, make_world, task

LIMIT, QUEUE = "limit", "limit of queue high"


@dataclass
class Place:
    """A place in memory; runs are put on workers by hand."""

    service: Service
    settings: dict[str, object] = field(default_factory=lambda: {LIMIT: 7, QUEUE: None})
    runs: dict[str, list[str]] = field(default_factory=dict)
    away: bool = False
    looks: int = 0
    writes: list[Mapping[str, object]] = field(default_factory=list)

    def look(self) -> PlaceSeen:
        self.looks += 1
        if self.away:
            raise ConflictError("away")
        held = sum(len(r) for r in self.runs.values())
        runs = {w: tuple(r) for w, r in self.runs.items()}
        return PlaceSeen(dict(self.settings), {LIMIT: held, QUEUE: 0}, runs)

    def write(self, changes: Mapping[str, object]) -> None:
        if self.away:
            raise ConflictError("away")
        self.writes.append(dict(changes))
        self.settings.update(changes)

    def worker_name(self, node_id: str, serial: str) -> str:
        return f"{node_id} {serial}"

    def worker(self, node: Node, serial: str, slots: int) -> TaskRun:
        spec = TaskSpec("worker", ("worker", str(slots)), request=ZERO, runtime_hint_s=1e9)
        return TaskRun(f"preprov:serve:pf:{node.node_id}:{serial}", "worker", "p", spec, "", State.READY)

    def farewell(self, node: Node, serial: str) -> TaskRun:
        return replace(self.worker(node, serial, 0), task_id="leave", spec=TaskSpec("leave", runtime_hint_s=1.0))


class Nodes(SimScheduler):
    """Workers that are told to leave end as soon as they have no run."""

    place: Place
    leaving: dict[str, Node]

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        super().start(task, instance, node)
        if task.task_id == "leave":
            self.leaving[f"{task.run_id}/worker#0"] = node
        self.go()

    def go(self) -> None:
        for claimant, node in self.leaving.items():
            name = self.place.worker_name(node.node_id, claimant.rpartition("/")[0].rpartition(":")[2])
            if not self.place.runs.get(name):
                self.cancel(claimant, node)


@dataclass
class Scene:
    world: World
    place: Place
    nodes: Nodes

    def want(self, count: int, seconds: float = 100_000.0) -> None:
        """So many nodes at least."""
        until = self.world.clock.now() + timedelta(seconds=seconds)
        self.world.ctx.ports.intent.add_override(Override("p", count, self.world.clock.now(), until, "wanted"))

    def run(self, seconds: float) -> None:
        self.world.run_for(seconds, every=15, plan_every=60, each=lambda _: self.nodes.go())

    def workers(self) -> dict[str, str]:
        """Node -> name of its worker."""
        found = {}
        for node_id, claimants in self.nodes._busy.items():
            for c in claimants:
                if c.endswith("/worker#0"):
                    found[node_id] = self.place.worker_name(node_id, c.rpartition("/")[0].rpartition(":")[2])
        return found


def scene(mode: Mode = Mode.FULL, **more: object) -> Scene:
    world = make_world(make_pool(mode=mode))
    values: dict[str, object] = {"workers": True, "shares": {LIMIT: 1.0, QUEUE: 0.5}, **more}
    place = Place(Service("pf", "p", Resources(cpu=1, memory=2), **values))  # type: ignore[arg-type]
    nodes = Nodes(world.clock, world.cloud)
    nodes.place, nodes.leaving = place, {}
    ctx = replace(world.ctx, schedulers={"sim": nodes}, served={"p": (place,)})
    return Scene(replace(world, ctx=ctx, scheduler=nodes), place, nodes)


def test_limits_follow_ready_nodes_up_and_down_and_each_has_a_worker_until_it_goes() -> None:
    s = scene()
    s.run(30)
    assert s.place.settings == {LIMIT: 0, QUEUE: 0}, "no node is warm: no run may start"
    s.want(2, seconds=600)
    s.run(300)
    assert s.world.nodes() == 2
    assert len(s.workers()) == 2
    assert s.place.settings == {LIMIT: 8, QUEUE: 4}, "four runs of a core fit on each"
    started = [c for c in s.nodes.starts if c.endswith("/worker#0")]
    assert len(started) == 2, "each once"
    s.run(1500)
    assert s.world.nodes() == 0, "an idle worker keeps no node"
    assert s.place.settings == {LIMIT: 0, QUEUE: 0}
    ended = [r for r in s.world.ctx.ports.audit.records("p") if r.action.kind is ActionKind.TERMINATE]
    assert any(r.result == "skipped" and "takes no more runs" in r.detail for r in ended)
    assert sum(r.result == "done" for r in ended) >= 1


def test_nothing_is_written_and_little_asked_while_nothing_changes() -> None:
    s = scene(every_s=60.0)
    s.want(1)
    s.run(400)
    before, looked = len(s.place.writes), s.place.looks
    s.run(1200)
    assert len(s.place.writes) == before
    assert s.place.looks - looked <= 24
    s.place.settings[LIMIT] = 99
    s.run(90)
    assert s.place.settings[LIMIT] == 4, "what somebody else has changed is put right at the next look"


def test_a_node_whose_worker_has_a_run_stays_and_the_limit_is_never_below_what_runs() -> None:
    s = scene()
    s.want(2, seconds=400)
    s.run(300)
    node, worker = sorted(s.workers().items())[0]
    s.place.runs[worker] = ["run-1", "run-2"]
    s.run(1500)
    left = s.world.cloud.observe(s.world.pool).nodes
    assert [n.node_id for n in left] == [node]
    assert s.place.settings[LIMIT] in (2, 4)
    shown = observe(s.world.ctx, s.world.pool).nodes[0]
    assert shown.running == ("pf: run-1", "pf: run-2")
    s.place.runs.clear()
    s.run(1500)
    assert s.world.nodes() == 0


def test_tasks_that_preprov_places_itself_leave_fewer_slots() -> None:
    s = scene()
    s.world.submit(dag("d", task("t", cpu=3, seconds=2000)))
    s.run(600)
    assert s.place.settings[LIMIT] == 1
    assert s.world.nodes() == 1


def test_observe_asks_nothing_and_recommend_says_once_what_it_would_do() -> None:
    for mode, looks in ((Mode.OBSERVE, False), (Mode.RECOMMEND, True)):
        s = scene(mode)
        s.run(600)
        assert bool(s.place.looks) is looks
        assert s.place.writes == []
        assert s.workers() == {}
        said = [r.result for r in s.world.ctx.ports.audit.records("p") if "follows" in r.action.reason]
        assert said == (["recommended"] if looks else [])


def test_floor_only_raises_and_leaves_what_has_no_bound() -> None:
    s = scene(Mode.FLOOR)
    s.want(3)
    s.run(300)
    assert s.place.settings == {LIMIT: 12, QUEUE: None}
    s.place.settings[LIMIT] = 40
    s.run(300)
    assert s.place.settings[LIMIT] == 40


@pytest.mark.parametrize("by_halt", [True, False])
def test_everything_is_as_it_was_found_after_release_and_after_halt_with_release(by_halt: bool) -> None:
    s = scene()
    s.want(2)
    s.run(300)
    assert s.place.settings[LIMIT] == 8
    ctx, pool = s.world.ctx, s.world.pool
    back = [b for _, b in halt(ctx, "enough", release=True).given_back] if by_halt else release(ctx, pool)
    assert [b.whole for b in back] == [True]
    assert s.place.settings == {LIMIT: 7, QUEUE: None}
    s.nodes.go()
    assert s.workers() == {}, "workers were asked to leave"
    writes = len(s.place.writes)
    s.run(600)
    assert len(s.place.writes) == writes
    assert s.place.settings == {LIMIT: 7, QUEUE: None}
    if by_halt:
        resume(ctx)
        s.run(300)
        assert s.place.settings[LIMIT] == 4 * s.world.nodes()


def test_what_is_served_only_since_later_is_recorded_when_it_comes() -> None:
    s = scene(shares={LIMIT: 1.0})
    s.place.settings = {LIMIT: 7}
    s.run(60)
    s.place.service = replace(s.place.service, shares={LIMIT: 1.0, QUEUE: 1.0})
    s.place.settings[QUEUE] = 5
    s.run(60)
    assert s.place.settings == {LIMIT: 0, QUEUE: 0}
    assert [b.whole for b in release(s.world.ctx, s.world.pool)] == [True]
    assert s.place.settings == {LIMIT: 7, QUEUE: 5}


def test_a_place_that_does_not_answer_costs_no_pass_and_keeps_its_nodes() -> None:
    s = scene()
    s.want(1, seconds=300)
    s.run(250)
    s.place.away = True
    s.run(1500)
    assert s.world.nodes() == 1, "nobody can say whether its worker has a run"
    failed = release(s.world.ctx, s.world.pool)
    assert [b.whole for b in failed] == [False]
    assert "away" in failed[0].error
    s.place.away = False
    assert [b.whole for b in release(s.world.ctx, s.world.pool)] == [True]


def test_a_worker_that_ends_is_started_again_less_and_less_often() -> None:
    s = scene()
    s.nodes.seconds = lambda t: 1.0  # it ends as soon as it has begun
    s.want(1)
    s.run(1800)
    starts = [c for c in s.nodes.starts if c.endswith("/worker#0")]
    assert len(set(starts)) == len(starts)
    assert 4 <= len(starts) <= 8


def test_without_workers_only_limits_follow() -> None:
    s = scene(workers=False)
    s.want(1)
    s.run(300)
    assert s.place.settings[LIMIT] == 4
    assert s.nodes.starts == []
    assert s.world.clock.now() > START


@dataclass
class Leased(Place):
    """A place that puts limits back by itself."""

    refuses: bool = False
    held: list[Mapping[str, object]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def hold_lease(self, found: Mapping[str, object]) -> None:
        if self.refuses:
            raise ConflictError("it has no automations")
        self.held.append(dict(found))
        self.done.append("hold")

    def end_lease(self) -> None:
        self.done.append("end")

    def write(self, changes: Mapping[str, object]) -> None:
        super().write(changes)
        self.done.append("write")


def leased(mode: Mode = Mode.FULL) -> tuple[Scene, Leased]:
    s = scene(mode, fills={"image": "etl:1"})
    place = Leased(s.place.service)
    s.nodes.place = place
    ctx = replace(s.world.ctx, served={"p": (place,)})
    return Scene(replace(s.world, ctx=ctx), place, s.nodes), place


def test_the_lease_is_there_before_the_first_change_and_is_renewed_at_every_look() -> None:
    s, place = leased()
    s.run(300)
    assert place.done.index("hold") < place.done.index("write")
    assert len(place.held) >= place.looks - 1
    assert all(h == {LIMIT: 7, QUEUE: None} for h in place.held), "as it was found, and limits only"
    release(s.world.ctx, s.world.pool)
    assert place.done[-2:] == ["write", "end"], "first it is given back, then nothing needs to put it back"
    assert place.settings[LIMIT] == 7


def test_where_no_lease_can_be_had_nothing_is_changed() -> None:
    s, place = leased()
    place.refuses = True
    s.run(300)
    assert place.writes == []
    place.refuses = False
    s.run(300)
    assert place.writes


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_nothing_is_leased_where_nothing_is_changed(mode: Mode) -> None:
    s, place = leased(mode)
    s.run(300)
    assert (place.held, place.writes) == ([], [])


def test_what_others_run_on_a_node_is_no_slot_and_runs_of_a_place_are_foreign_to_all_else() -> None:
    s = scene()
    s.want(2)
    s.run(300)
    assert s.place.settings[LIMIT] == 8
    first, second = sorted(s.workers())
    s.world.cloud.foreign[first] = (Foreign(Resources(cpu=3, memory=1)),)
    s.place.runs[s.workers()[second]] = ["run-1", "run-2"]
    s.run(30)
    assert s.place.settings[LIMIT] == 5, "its own runs are in its own room"
    held = {n.node_id: sum(f.amount.cpu for f in n.foreign or ()) for n in observe(s.world.ctx, s.world.pool).nodes}
    assert held == {first: 3, second: 2}


def test_a_worker_of_which_nobody_can_say_anything_may_have_all_its_slots() -> None:
    s = scene()
    s.want(1)
    s.run(300)
    s.place.away = True
    s.run(300)
    (node,) = observe(s.world.ctx, s.world.pool).nodes
    assert [f.amount for f in node.foreign or ()] == [s.place.service.run] * 4


def test_a_limit_does_not_fall_with_each_run_that_others_see_as_foreign() -> None:
    """Without workers of preprov's the place's runs may be the pods, or jobs, that are on the nodes."""
    s = scene(workers=False)
    s.want(2)
    s.run(300)
    (first, _) = sorted(n.node_id for n in observe(s.world.ctx, s.world.pool).nodes)
    s.world.cloud.foreign[first] = (Foreign(Resources(cpu=3, memory=1)),)
    s.place.runs["their worker"] = ["a", "b", "c"]
    s.run(30)
    assert s.place.settings[LIMIT] == 8
    s.place.runs.clear()
    s.run(30)
    assert s.place.settings[LIMIT] == 5
