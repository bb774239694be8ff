"""Tasks of a cluster get more, or less, by a resize of their pod: the whole control code, the real client in between.

The stand-in's kubelet looks at a resize some seconds after it was asked for, kills what uses more memory than its limit
has in force, and refuses what its node has not: as real ones do, and the tests of `testing.adjuster_contract` do not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprov.control import halting
from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.control.submitting import submit
from preprov.control.why import why_node, why_run
from preprov.launch.kubernetes import KubernetesScheduler
from preprov.model.adjusting import Adjusting
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Guards, Pool
from preprov.model.quantity import quantity
from preprov.model.reservations import ReservationState
from preprov.model.resources import Resources, sum_of
from preprov.model.work import DagRun, DagSpec, State, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.pools.kubernetes.provider import KubernetesProvider
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.testing.scripted_kubelet import ScriptedKubelet
from tests.kubernetesworld import LABELS, START, kubernetes_pool

Load: TypeAlias = Callable[[str, float], tuple[float, float]]
MANNER = Adjusting(calm_s=45, every_s=10, ahead_s=45)
GIB = 2.0**30


@dataclass
class Stage:
    """One node of 4 cores and 16 GiB; tasks use what a script says."""

    fake: ScriptedKubelet
    clock: VirtualClock
    pool: Pool
    ctx: Context

    def submit(self, name: str, *, seconds: float, cpu: float = 1, memory: float = 4, retries: int = 0) -> DagRun:
        task = TaskSpec("t", request=Resources(cpu=cpu, memory=memory), runtime_hint_s=seconds, retries=retries)
        (run,) = submit(self.ctx, (DagSpec(name, (task,)).in_pool(self.pool.name),))
        return run

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False, *, every: float = 10) -> None:
        """Passes every ten seconds; a plan with each fourth."""
        end, looks = self.clock.now() + timedelta(seconds=seconds), 0
        while self.clock.now() < end and not until():
            pool_pass(self.ctx, self.pool, plan=looks % 4 == 0)
            self.nothing_is_overbooked()
            self.clock.sleep(every)
            looks += 1

    def nothing_is_overbooked(self) -> None:
        """Neither by the ledger, nor because a task has more than it says: what is taken later is kept until then."""
        claims = self.claims()
        assert sum_of(claims.values()).fits_in(Resources(cpu=4, memory=16), ("cpu", "memory"))
        for pod in self.fake.objects["pods"].values():
            run_id = pod["metadata"]["annotations"].get("preprov.io/claimant", "").partition("/")[0]
            if run_id in claims and pod["status"].get("phase") == "Running":
                assert in_force(pod).fits_in(claims[run_id] * 1.01, ("cpu", "memory"))

    def claims(self) -> dict[str, Resources]:
        """Of each run, what the ledger has."""
        live = self.ctx.ports.ledger.reservations("p")
        return {r.claimant.partition("/")[0]: r.most for r in live if r.state is ReservationState.COMMITTED}

    def claim(self, run: DagRun) -> Resources:
        return self.claims()[run.run_id]

    def rows(self, run: DagRun, result: str = "done") -> list[ActionRecord]:
        rows = (r for r in self.ctx.ports.audit.records("p") if r.action.kind is ActionKind.RESIZE)
        return [r for r in rows if r.action.task.startswith(run.run_id) and r.result == result]

    def limits(self, run: DagRun) -> list[float]:
        """Of its memory in GiB, one after the other, as they were in force."""
        return [b / GIB for c, seen in self.fake.limits.items() if c.startswith(run.run_id) for _, b in seen]

    def has(self, run: DagRun) -> Resources:
        """As its kubelet says."""
        return in_force(self.pod(run))

    def state(self, run: DagRun) -> State:
        found = self.ctx.ports.work.run(run.run_id)
        assert found is not None
        return found.state

    def pod(self, run: DagRun) -> dict:
        said = "preprov.io/claimant"
        pods = self.fake.objects["pods"].values()
        return next(p for p in pods if p["metadata"]["annotations"].get(said, "").startswith(run.run_id))


def in_force(pod: dict) -> Resources:
    told = pod["status"]["containerStatuses"][0]["resources"]["requests"]
    return Resources(cpu=quantity(told["cpu"]), memory=quantity(told["memory"]) / GIB)


@contextmanager
def stage(folder: Path, load: Load, adjusting: Adjusting | None = MANNER, minor: int = 34) -> Iterator[Stage]:
    clock = VirtualClock(START)
    fake = ScriptedKubelet(
        clock=lambda: clock.now().timestamp(), labels=LABELS, boot_s=30.0, most=1, load=load, resize_s=7.0, minor=minor
    )
    fake.priority_class("preprov-placeholder", -10)
    with fake.served(folder) as kubeconfig:
        pool = kubernetes_pool(kubeconfig, tasks=True, task_image="registry/etl:1")
        group = replace(pool.groups[0], max_nodes=1)
        pool = replace(pool, groups=(group,), adjusting=adjusting, step_seconds=30, guards=Guards(max_nodes=1))
        ctx = Context(
            ports=memory_ports(),
            providers={"kubernetes": KubernetesProvider(clock)},
            schedulers={"kubernetes": KubernetesScheduler({pool.name: pool})},
            prices=TablePriceBook.from_pools([pool]),
            clock=clock,
            pools={pool.name: pool},
            n_samples=20,
        )
        yield Stage(fake, clock, pool, ctx)


def grows(_: str, seconds: float) -> tuple[float, float]:
    """2 GiB, then from the first minute on 1.2 GiB a minute more, up to 9."""
    return 0.9, min(2 + max(seconds - 60, 0) / 50, 9)


def test_memory_is_raised_before_its_limit_is_reached(tmp_path: Path) -> None:
    with stage(tmp_path, grows) as s:
        run = s.submit("grows", seconds=600)
        s.run(900, lambda: s.state(run) is State.SUCCEEDED, every=5)
        assert s.state(run) is State.SUCCEEDED
        assert s.fake.killed == []
        assert s.limits(run)[0] == 4
        assert s.limits(run)[-1] >= 9
        told = s.rows(run)
        assert any("GiB in use of" in r.action.reason or "full in" in r.action.reason for r in told)
        events = [e for e in why_run(s.ctx, run.run_id).events if e.what.startswith("resize")]
        assert len(events) >= len(told)
        assert any(e.what.startswith("resize") for e in why_node(s.ctx, told[0].node_ids[0]).events)


def test_the_same_task_is_killed_where_nothing_is_adjusted(tmp_path: Path) -> None:
    """So the test above can fail."""
    with stage(tmp_path, grows, adjusting=None) as s:
        run = s.submit("grows", seconds=600)
        s.run(900, lambda: s.state(run) is State.FAILED, every=5)
        assert s.state(run) is State.FAILED
        assert len(s.fake.killed) == 1
        assert ("patch", "", "pods/resize") not in s.fake.called


# ---- less


def idles(_: str, seconds: float) -> tuple[float, float]:
    return 0.4, 1.0


@pytest.mark.parametrize("minor", [33, 34])
def test_what_a_task_leaves_lets_one_start_that_waits(tmp_path: Path, minor: int) -> None:
    """Its limit of memory stays: who uses less now may use more again, and is not to be killed for it."""
    with stage(tmp_path, idles, minor=minor) as s:
        wide = s.submit("wide", seconds=3000, cpu=4, memory=12)
        s.run(90)
        late = s.submit("late", seconds=600, cpu=2, memory=8)
        s.run(400, lambda: late.run_id in s.claims())
        assert s.state(late) is State.RUNNING
        assert s.claim(wide) == s.has(wide) == Resources(cpu=0.5, memory=6)
        assert s.limits(wide) == [12]
        assert s.pod(late)["status"]["phase"] == "Running"
        assert len(s.fake.objects["nodes"]) == 1
        assert s.rows(wide, "failed") == []
        asked, taken = s.rows(wide)[:2]
        assert "at most 0.4 cores in use of 4 cores" in asked.action.reason
        assert "given up yet" in asked.detail
        assert "cpu 4 -> 0.5" in taken.action.reason
        assert taken.at > asked.at


def test_what_a_kubelet_cannot_take_away_stays_on_the_books(tmp_path: Path) -> None:
    """The task keeps what it has, and is left alone for twice as long."""
    with stage(tmp_path, idles) as s:
        s.fake.fails = "the runtime does not answer"
        run = s.submit("etl", seconds=3000, memory=8)
        s.run(300, lambda: bool(s.rows(run)))
        assert s.claim(run).memory == 8, "until it has less, nobody else has it"
        s.run(30, lambda: bool(s.rows(run, "failed")))
        (row,) = s.rows(run, "failed")
        assert "memory 8 -> 4 GiB: not to be had" in row.action.reason
        assert row.detail == "Error: the runtime does not answer"
        assert s.claim(run) == s.has(run) == Resources(cpu=1, memory=8)
        s.fake.fails = ""
        s.run(60)
        assert s.has(run).memory == 8, "it is tried again, but not at once"
        s.run(120)
        assert s.claim(run) == s.has(run) == Resources(cpu=0.5, memory=4)


def test_a_load_that_comes_and_goes_is_soon_left_alone(tmp_path: Path) -> None:
    """The number of times that its course turns grows with the logarithm of time."""

    def square(_: str, seconds: float) -> tuple[float, float]:
        high = seconds // 150 % 2 == 1
        return (1.9, 5.5) if high else (0.2, 1.0)

    with stage(tmp_path, square, replace(MANNER, unseen=0.0)) as s:
        run = s.submit("square", seconds=9000, cpu=2, memory=6)
        seen: list[float] = []
        s.run(3000, lambda: bool(seen.append(s.claims().get(run.run_id, Resources(cpu=2)).cpu)), every=15)
        steps = [b - a for a, b in pairwise(seen) if a != b]
        turns = sum(x * y < 0 for x, y in pairwise(steps))
        assert turns <= 8, "3000 s are 20 turns of the load"
        assert s.fake.killed == []


# ---- what a kubelet refuses


def test_what_its_node_can_never_give_is_asked_for_once(tmp_path: Path) -> None:
    with stage(tmp_path, lambda *_: (3.2, 1.0)) as s:
        run = s.submit("greedy", seconds=3000)
        s.run(120, lambda: run.run_id in s.claims())
        (node,) = s.fake.objects["nodes"].values()
        node["status"]["allocatable"]["cpu"] = "2"
        s.run(250)
        (row,) = s.rows(run, "failed")
        assert row.detail.startswith("Infeasible: ")
        assert "cpu 1 -> 4 cores: not to be had on its node" in row.action.reason
        assert s.claim(run).cpu == 1
        assert s.pod(run)["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1000m"
        assert any("Infeasible" in e.what for e in why_run(s.ctx, run.run_id).events if e.what.startswith("resize"))


def test_what_is_put_off_stands_and_is_given_when_there_is_room(tmp_path: Path) -> None:
    """The ledger holds it meanwhile, so that it is nobody else's when it comes."""
    with stage(tmp_path, lambda *_: (1.5, 3.4)) as s:
        run = s.submit("etl", seconds=3000)
        s.run(120, lambda: run.run_id in s.claims() and bool(s.limits(run)))
        stranger = s.fake.work("stranger", cpu="2500m", memory="1Gi")
        # What is on a node because the node is there, is no work that is counted.
        stranger["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "stranger", "uid": "u"}]
        assert stranger["status"]["phase"] == "Running"
        s.run(120)
        (row,) = s.rows(run, "skipped")
        assert row.detail.startswith("Deferred: ")
        assert s.claim(run).cpu == 1.875
        assert s.fake.objects["pods"], "nothing was ended for it"
        s.fake.called.clear()
        s.fake.finish(stranger)
        s.run(30)
        assert ("patch", "", "pods/resize") not in s.fake.called
        assert s.claim(run).cpu == s.has(run).cpu == 1.875


# ---- given back


def test_a_halt_that_releases_gives_back_what_was_asked_for(tmp_path: Path) -> None:
    with stage(tmp_path, idles) as s:
        run = s.submit("etl", seconds=3000, cpu=2, memory=8)
        s.run(300)
        assert s.has(run) == Resources(cpu=0.5, memory=4)
        halting.halt(s.ctx, "enough")
        s.run(200)
        assert s.has(run) == Resources(cpu=0.5, memory=4), "nothing in a cluster gives it back by itself"
        halting.halt(s.ctx, "enough", release=True)
        s.clock.sleep(10)
        s.fake.settle()
        assert s.has(run) == Resources(cpu=2, memory=8)


def test_a_pool_that_is_not_adjusted_any_more_gives_back_and_then_leaves_it(tmp_path: Path) -> None:
    with stage(tmp_path, idles) as s:
        run = s.submit("etl", seconds=3000, cpu=2, memory=8)
        s.run(300)
        pool = replace(s.pool, adjusting=None)
        s.pool, s.ctx = pool, replace(s.ctx, pools={"p": pool})
        s.run(30)
        assert s.has(run) == Resources(cpu=2, memory=8)
        s.fake.called.clear()
        s.run(30)
        assert ("patch", "", "pods/resize") not in s.fake.called


def test_nothing_is_written_of_a_task_that_has_what_it_should_have(tmp_path: Path) -> None:
    """A pod keeps what it was given: nobody renews it, and no request is spent on it."""
    with stage(tmp_path, lambda *_: (0.85, 3.4)) as s:
        s.submit("etl", seconds=3000)
        s.run(400)
        assert ("patch", "", "pods/resize") not in s.fake.called


def test_without_a_metrics_server_nothing_is_changed(tmp_path: Path) -> None:
    with stage(tmp_path, idles) as s:
        s.fake.metered = False
        run = s.submit("etl", seconds=3000, cpu=2, memory=8)
        s.run(300)
        assert s.claim(run) == Resources(cpu=2, memory=8)
        assert ("patch", "", "pods/resize") not in s.fake.called


def test_a_controller_that_is_lost_in_between_is_followed_by_one_that_agrees_with_the_cluster(tmp_path: Path) -> None:
    """Whatever it had asked for last: ledger and pod are the same again, and nothing was given twice."""
    with stage(tmp_path, idles) as s:
        run = s.submit("etl", seconds=3000, cpu=2, memory=8)
        s.run(300, lambda: bool(s.rows(run)))
        s.ctx = replace(s.ctx, memo={})
        s.run(60)
        assert s.claim(run) == s.has(run)
        s.run(200)
        assert s.claim(run) == Resources(cpu=0.5, memory=4), "and it is adjusted as before"


# ---- whatever they use, and whatever the kubelet does


STEPS = st.lists(st.tuples(st.floats(0.05, 4), st.floats(0.1, 12)), min_size=1, max_size=5)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    loads=st.lists(STEPS, min_size=1, max_size=3),
    troubles=st.lists(st.sampled_from(["", "no answer", "stranger", "controller"]), min_size=4, max_size=4),
)
def test_the_ledger_never_says_less_than_a_task_has(
    tmp_path: Path, loads: list[list[tuple[float, float]]], troubles: list[str]
) -> None:
    """Kubelets that fail, pods of others that come, a controller that is lost: checked at every look."""

    def load(claimant: str, seconds: float) -> tuple[float, float]:
        steps = loads[int(claimant[1])]
        return steps[int(seconds // 60) % len(steps)]

    with stage(tmp_path, load) as s:
        runs = [s.submit(f"r{i}", seconds=400, cpu=1 + i % 2, memory=2 + 2 * i, retries=1) for i in range(len(loads))]
        s.run(60)
        for trouble in troubles:
            s.fake.fails = trouble if trouble == "no answer" else ""
            stranger = s.fake.work("stranger", cpu="500m", memory="1Gi") if trouble == "stranger" else None
            if trouble == "controller":
                s.ctx = replace(s.ctx, memo={})
            s.run(120)
            if stranger is not None:
                s.fake.objects["pods"].pop(stranger["metadata"]["uid"], None)
        s.fake.fails = ""
        s.run(1500, lambda: all(s.state(r).is_final for r in runs))
        assert all(s.state(r).is_final for r in runs)
        assert s.claims() == {}
