"""A real Slurm's queue and accounting, read as work: jobs that its own queue powers nodes up for."""

import shutil
from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
import pytest

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.model.agent import Usage
from preprov.sim.ports import memory_ports
from preprov.slurm.arrays import elements
from preprov.slurm.errors import SlurmError, Trouble
from preprov.slurm.rest import SlurmRest
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.live_source_contract import POOL, held, read, unrouted
from preprov.testing.slurm_cluster import SlurmHost, slurmrestd
from tests.integration.slurm.conftest import short_folder
from tests.slurmworld import SlurmWorld, slurm_world

COMMON = ("--partition=batch", "--mem=100M", "-n1", "-c1", "--output=/dev/null")


@pytest.fixture(scope="module")
def shared(host: SlurmHost) -> Iterator[SlurmWorld]:
    """Only the backfill scheduler starts heterogeneous jobs, and by default it looks every 30 s."""
    often = ("SchedulerParameters=bf_interval=1",)
    with short_folder("psw-") as folder, slurm_world(host, folder, "reading", more=often) as world:
        yield world


class RealPlace:
    """As the suite of sources wants it."""

    def __init__(self, world: SlurmWorld) -> None:
        self.world = world

    def now(self):
        return WallClock().now()

    def source(self) -> SlurmSource:
        reader = SlurmReader(self.world.slurm, RequestBudget(100.0, WallClock()))
        return SlurmSource(SlurmSettings("cluster", history_s=3600.0), reader, WallClock())


def test_a_chain_and_an_array_are_read_from_the_queue_and_again_when_they_ended(world: SlurmWorld) -> None:
    place, ports, cluster = RealPlace(world), memory_ports(), world.cluster
    first = cluster.submit(*COMMON, "--job-name=extract", script="#!/bin/sh\nexec sleep 2\n")
    after = f"--dependency=afterok:{first}"
    cluster.submit(*COMMON, after, "--job-name=load", script="#!/bin/sh\nexec sleep 1\n")
    array = cluster.submit(*COMMON, "--array=0-2", "--job-name=wave", script="#!/bin/sh\nexec sleep 1\n")
    stuck = cluster.submit(*COMMON, "--hold", "--job-name=held", script="#!/bin/sh\nexit 0\n")
    read(place, ports)
    assert {str(first), str(array)} <= set(held(ports))
    work = ports.work.work(POOL)
    run = list(work.runs["run_id"]).index(str(first))
    names = dict(enumerate(work.tasks["task_id"]))
    edges = [(names[p], names[c]) for p, c in zip(work.parents, work.children, strict=True)]
    assert len([e for e in edges if e[0].startswith("extract") and e[1].startswith("load")]) == 1
    assert (work.tasks["run"] == run).sum() == 2
    world.until(lambda: bool(world.nodes()), "Slurm to power a node up for its queue")

    def ended() -> bool:
        left = [j for j in world.slurm.jobs() if not j.is_over and j.job_id != stuck]
        return not left

    world.until(ended, "the jobs to end")

    def told() -> bool:
        """The accounting comes after the queue."""
        read(place, ports)
        tasks = ports.work.work(POOL).tasks
        mine = tasks[
            tasks["run"].isin([i for i, r in enumerate(ports.work.work(POOL).runs["run_id"]) if r != str(stuck)])
        ]
        return bool(mine["ended_at"].notna().all())

    world.until(told, "all of them to be over")
    work = ports.work.work(POOL)
    wave = work.tasks[work.tasks["run"] == list(work.runs["run_id"]).index(str(array))]
    assert wave["instances"].sum() == 3, "elements that ran apart are tasks of one instance"
    assert wave["runtime_s"].min() >= 0.9
    chain = work.tasks[work.tasks["run"] == list(work.runs["run_id"]).index(str(first))].set_index("task_id")
    begins = {name.split("-")[0].split(":")[0]: row for name, row in chain.iterrows()}
    assert begins["load"]["started_at"] >= begins["extract"]["ended_at"]
    again = read(place, ports)
    assert (again.new, again.changed, again.gone) == (0, 0, 0)


def test_a_heterogeneous_job_is_one_run_whose_components_count_once_each(world: SlurmWorld) -> None:
    place, ports, cluster = RealPlace(world), memory_ports(), world.cluster
    script = world.home / "two.sh"
    script.write_text("#!/bin/sh\nexec sleep 2\n")
    crew = ("--partition=batch", "--mem=300M", "-n1", "-c2", "--job-name=crew")
    said = cluster.run("sbatch", "--parsable", *COMMON, "--job-name=lead", ":", *crew, str(script))
    first = int(said.strip().split(";")[0])

    def tasks() -> pd.DataFrame:
        """Its own, the smaller component first."""
        work = ports.work.work(POOL).with_waits()
        run = work.runs["run_id"].to_numpy()[work.tasks["run"].to_numpy()]
        assert not {*run} & {str(first + 1)}, "a component is no run of its own"
        return work.tasks[run == str(first)].sort_values("cpu")

    def asked() -> list[tuple[float, ...]]:
        return [(t.instances, t.cpu, round(t.memory * 1024)) for t in tasks().itertuples()]

    wanted = [(1, 1.0, 100), (1, 2.0, 300)]
    read(place, ports)
    assert asked() == wanted, "while it waits, as squeue tells it"
    world.until(lambda: all(j.is_over for j in world.slurm.jobs()), "it to end")

    def told() -> bool:
        """The accounting comes after the queue."""
        read(place, ports)
        return bool(tasks()["ended_at"].notna().all())

    world.until(told, "both to be over")
    assert asked() == wanted, "when it is over, as sacct tells it"
    assert len({row.node for row in tasks().itertuples()}) == 2, "each on the node that it had"
    assert tasks()["runtime_s"].between(1.5, 30.0).all()
    assert {j.het_offset for j in world.slurm.of_jobs([first])} == {0, 1}
    again = read(place, ports)
    assert (again.new, again.changed, again.gone) == (0, 0, 0)


def test_what_can_be_seen_is_said(world: SlurmWorld) -> None:
    findings = {f.what: f for f in RealPlace(world).source().examine()}
    assert {f.state for f in findings.values()} == {"ok"}
    assert findings["version"].found.startswith("Slurm ")
    assert "batch" in findings["partitions"].found


def test_a_cluster_made_by_its_own_configuration_is_found_good(world: SlurmWorld) -> None:
    found = world.provider.examine(world.pool)
    assert [f for f in found if f.state != "ok"] == []
    assert any("4 cloud nodes" in f.found for f in found)


def test_over_its_rest_service_the_same_is_read(world: SlurmWorld) -> None:
    if shutil.which("slurmrestd") is None or not world.cluster.host.jwt:
        pytest.skip("slurmrestd or its plugin for tokens is not installed")
    held = world.cluster.submit(*COMMON, "--hold", "--job-name=rest", script="#!/bin/sh\nexit 0\n")
    odd = f"--array={','.join(str(i) for i in range(1, 80, 2))}"
    array = world.cluster.submit(*COMMON, "--hold", odd, "--job-name=odd", script="#!/bin/sh\nexit 0\n")
    token = world.cluster.run("scontrol", "token", "username=root", "lifespan=600").strip().partition("=")[2]
    now = WallClock().now()
    with slurmrestd(world.cluster) as url:
        rest, commands = SlurmRest(url, "root", lambda: token), world.slurm
        assert rest.version().startswith(commands.version())
        assert {n.name: (n.state, n.flags, n.cpus) for n in rest.nodes()} == {
            n.name: (n.state, n.flags, n.cpus) for n in commands.nodes()
        }
        (theirs,), (ours,) = ([j for j in jobs if j.job_id == held] for jobs in (rest.jobs(), commands.jobs()))
        assert theirs == ours
        for told in (rest.jobs(), commands.jobs()):
            (waits,) = [j for j in told if j.job_id == array]
            assert elements(waits.array_tasks) == [*range(1, 80, 2)], "though they take more than 64 characters"
        world.until(lambda: rest.counted() is not None, "the controller to count, as it does once it is up")
        assert {p.name for p in rest.partitions()} == {p.name for p in commands.partitions()}
        since = now - timedelta(hours=1)
        assert {j.job_id for j in rest.ended(since, now)} == {j.job_id for j in commands.ended(since, now)}
        expired = SlurmRest(url, "root", lambda: f"{token[:-8]}AAAAAAAA")
        for ask in (expired.nodes, expired.jobs, expired.partitions, lambda: expired.ended(since, now)):
            with pytest.raises(SlurmError):  # and not a queue without jobs
                ask()
        with pytest.raises(SlurmError) as other:
            SlurmRest(url, "root", lambda: token, version="v0.0.1").nodes()
        assert other.value.trouble is Trouble.UNSUPPORTED
    with pytest.raises(SlurmError) as gone:
        SlurmRest(url, "root", lambda: token).nodes()
    assert gone.value.trouble is Trouble.UNREACHABLE


def test_reservations_and_features_of_a_real_slurm_are_known(world: SlurmWorld) -> None:
    cluster, ports = world.cluster, memory_ports()
    cluster.run("scontrol", "update", "nodename=cn[1-4]", "features=intel,ssd", "activefeatures=intel,ssd")
    made = ("reservationname=maint", "starttime=now", "duration=60", "users=root", "nodes=cn[1-3]")
    cluster.run("scontrol", "create", *made)
    try:
        hold = (*COMMON, "--hold")
        kept = cluster.submit(*hold, "--job-name=kept", "--reservation=maint", script="#!/bin/sh\nexit 0\n")
        fast = cluster.submit(
            *COMMON, "--hold", "--job-name=fast", "--constraint=intel&ssd", script="#!/bin/sh\nexit 0\n"
        )
        (found,) = world.slurm.reservations()
        assert (found.name, found.nodes, found.cores) == ("maint", "cn[1-3]", 6)
        assert found.end - found.start == pytest.approx(3600, abs=2)
        assert {n.features for n in world.slurm.nodes() if n.name.startswith("cn")} == {("intel", "ssd")}
        seen = world.provider.observe(world.pool)
        assert seen.withheld == {"cloud": 3}
        read(RealPlace(world), ports)
        (limit,) = ports.sources.limits()
        assert (limit.name, limit.slots) == ("batch", 8.0)
        assert limit.reserved == ((pytest.approx(found.start, abs=2), pytest.approx(found.end, abs=2), 6.0),)
        work = ports.work.work(POOL)
        tasks = work.tasks.set_axis(work.runs["run_id"].to_numpy()[work.tasks["run"].to_numpy()], axis=0)
        assert tasks.loc[str(kept), "cpu"] == 0.0
        assert tasks.loc[str(fast), ["cpu", "constraint"]].tolist() == [1.0, "intel&ssd"]
        group = world.pool.groups[0]
        ids = world.provider.launch(LaunchRequest(world.pool, "cloud", group.offerings[0], 3, "kept", world.preload))
        assert ids == ("cn4",)
    finally:
        cluster.run("scancel", "--user=root", check=False)
        cluster.run("scontrol", "delete", "reservationname=maint")


def test_what_running_jobs_use_is_asked_of_a_real_sstat(world: SlurmWorld) -> None:
    place = RealPlace(world)
    ports, told = memory_ports(), list[tuple[str, Usage]]()
    script = "#!/bin/sh\nwhile :; do :; done\n"
    job = world.cluster.submit(*COMMON, "--job-name=busy", script=script)

    def seen() -> bool:
        for batch in place.source().changes(ports.sources.state("cluster"), place.now()):
            ports.sources.apply("cluster", unrouted(batch, "UTC"), place.now())
            told.extend(batch.usage)
            assert batch.notes == ()
        return any((u.cpu or 0.0) > 0.3 for _, u in told)

    world.until(seen, "what it uses to be told")
    assert {name for name, _ in told} == {f"{job}/busy#0"}
