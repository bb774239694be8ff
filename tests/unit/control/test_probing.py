"""Tasks are tried on a sample first where that pays, at a cost that is told, and get what the probe says they need."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from preprov.control.passes import pool_pass
from preprov.control.probing import PROBE
from preprov.control.rightsizing import of_pool, probes_of
from preprov.control.submitting import cancel
from preprov.control.why import why_run
from preprov.model.curved import Probing
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Objective, Within
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources
from preprov.model.work import Probe, State, TaskRun, TaskSpec
from preprov.sim.adjustable import AdjustableSim
from tests.unit.control.world import START, World, dag, make_pool, make_world

CAP = Resources(cpu=0.5, memory=1)


@dataclass
class Stage:
    """Tasks whose memory follows their input, as nobody knows beforehand; a probe uses a tenth of it."""

    world: World
    sim: AdjustableSim
    peaks: dict[str, float]

    def submit(self, peak: float, probe: Probe | None = Probe(("sample",), 30.0, CAP)) -> str:  # noqa: B008 - frozen
        spec = TaskSpec("t", ("x",), request=Resources(cpu=1, memory=12), runtime_hint_s=1200, retries=1, probe=probe)
        (run,) = self.world.submit(dag("d", spec))
        self.peaks[run.run_id] = peak
        return run.run_id

    def run(self, seconds: float) -> None:
        self.world.run_for(seconds, every=10, plan_every=600)

    def until_over(self) -> None:
        while any(not r.state.is_final for r in self.world.ctx.ports.work.runs("p")):
            self.world.run_for(300, every=15, plan_every=600)

    def rows(self, run_id: str) -> list[ActionRecord]:
        rows = self.world.ctx.ports.audit.records("p")
        return [r for r in rows if r.action.kind is ActionKind.PROBE and r.action.task.startswith(run_id)]

    def claims(self) -> dict[str, Resources]:
        live = self.world.ctx.ports.ledger.reservations("p")
        return {r.claimant: r.most for r in live if r.state is ReservationState.COMMITTED}


def stage(probing: Probing | None = Probing(), *, waiting_usd: float = 0.0) -> Stage:  # noqa: B008 - frozen
    peaks: dict[str, float] = {}

    def load(t: TaskRun, _: float) -> Resources:
        return Resources(cpu=0.4, memory=peaks[t.run_id] * (0.1 if PROBE in t.task_id else 1.0))

    objective = Objective(shortage_usd_per_core_hour=waiting_usd)
    world = make_world(make_pool(probing=probing, objective=objective, floors=(Within(3),)))
    sim = AdjustableSim(world.clock, world.cloud, load=load)
    return Stage(replace(world, ctx=replace(world.ctx, schedulers={"sim": sim}), scheduler=sim), sim, peaks)


def learnt(peaks: tuple[float, ...]) -> Stage:
    s = stage()
    for peak in peaks:
        s.submit(peak)
    s.until_over()
    return s


def test_a_probe_says_what_its_task_will_need_once_others_were_followed_by_their_runs():
    s = learnt((1.0, 9.0, 3.0, 6.0, 2.0))
    s.world.clock.sleep(600)
    run = s.submit(4.0)
    s.run(30)
    probe, own = f"{run}/t{PROBE}#0", f"{run}/t#0"
    assert s.claims()[probe] == CAP
    assert s.sim.limits[probe] == CAP
    assert own not in s.claims(), "it waits for what the probe says"
    s.run(60)
    assert probe not in s.claims()
    assert 4.0 <= s.claims()[own].memory < 5.0
    assert s.claims()[own].cpu == 1
    done = s.rows(run)[-1]
    assert done.result == "done"
    assert done.action.numbers["node_seconds"] == pytest.approx(30 * 0.125, rel=0.4)
    assert done.action.numbers["usd"] > 0
    assert any("probe run" in e.why and "GiB" in e.why for e in why_run(s.world.ctx, run).events)
    s.until_over()
    report = of_pool(s.world.ctx, s.world.pool, since=START).as_dict()
    assert report["probes"]["runs"] == 6
    assert report["probes"]["node_seconds"] > 0
    assert all(PROBE not in t["task"] for t in report["tasks"]), "a probe is no run of its task"


def test_it_is_left_out_where_it_would_not_pay_and_one_can_ask_why():
    steady = learnt((4.0, 4.01, 3.99, 4.0, 4.02))
    steady.world.clock.sleep(600)
    run = steady.submit(4.0)
    steady.run(10)
    assert f"{run}/t#0" in steady.claims()
    (row,) = steady.rows(run)
    assert row.result == "skipped"
    assert "are expected to be wasted" in row.action.reason
    assert any("no probe run" in e.why for e in why_run(steady.world.ctx, run).events)
    dear = stage(waiting_usd=1e4)
    run = dear.submit(4.0)
    dear.run(150)
    assert [r.result for r in dear.rows(run)] == ["skipped"]
    assert probes_of(dear.world.ctx, dear.world.pool, START).skipped == 1


def test_without_the_setting_or_a_probe_in_the_task_nothing_is_tried():
    for s, probe in ((stage(None), Probe(("sample",), 30.0, CAP)), (stage(), None)):
        run = s.submit(4.0, probe)
        s.run(150)
        assert f"{run}/t#0" in s.claims()
        assert s.rows(run) == []


def test_a_probe_ends_with_its_time_with_its_cap_and_with_its_run():
    for peak, seconds, left in ((4.0, 9000.0, 60.0), (30.0, 30.0, 30.0)):
        s = stage()
        s.sim.seconds = lambda t: 9000.0
        run = s.submit(peak, Probe((), seconds if peak > 10 else left, CAP))
        s.run(150)
        s.run(90)
        assert f"{run}/t{PROBE}#0" not in s.claims()
        assert f"{run}/t#0" in s.claims()
    s = stage()
    run = s.submit(4.0, Probe(("sample",), 3000.0, CAP))
    s.run(150)
    assert f"{run}/t{PROBE}#0" in s.claims()
    cancel(s.world.ctx, run)
    s.run(30)
    assert s.claims() == {}


def test_a_controller_that_takes_over_goes_on_with_a_probe_and_makes_no_second():
    s = stage()
    run = s.submit(4.0)
    while f"{run}/t{PROBE}#0" not in s.claims():
        s.run(10)
    s.world.ctx.memo.clear()
    s.run(90)
    assert [r.result for r in s.rows(run)] == ["intended", "done"]
    assert sum(PROBE in c for c in s.sim.starts) == 1


def test_one_that_fails_for_want_of_memory_asks_for_no_less_than_at_first():
    s = learnt((1.0, 9.0, 3.0, 6.0, 2.0))
    s.world.clock.sleep(600)
    s.sim.exit_code = lambda t: 137 if t.attempt == 1 and PROBE not in t.task_id else 0
    s.sim.seconds = lambda t: 30.0 if PROBE in t.task_id else 200.0
    run = s.submit(4.0)
    s.run(290)
    pool_pass(s.world.ctx, s.world.pool, plan=False)
    assert s.claims()[f"{run}/t#0@2"].memory == 12
    s.until_over()
    assert s.world.ctx.ports.work.run(run).state is State.SUCCEEDED
    assert np.isfinite(s.rows(run)[-1].action.numbers["memory_after"])
