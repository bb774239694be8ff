"""A real Slurm whose cloud nodes are real local nodes, for tests: a pool, its provider, its scheduler."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from preprov import configfile
from preprov.clocks import WallClock
from preprov.contracts import Clock, PoolProvider
from preprov.launch.slurm import SlurmScheduler
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.pools import Pool
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.local import LocalProvider
from preprov.pools.slurm.config import fragment
from preprov.pools.slurm.options import slurm_groups
from preprov.pools.slurm.provider import SlurmProvider
from preprov.slurm.commands import SlurmCommands, connect
from preprov.testing.local_nodes import cleared
from preprov.testing.slurm_cluster import SlurmCluster, SlurmHost, free_ports, slurm_cluster
from preprov.testing.waiting import REAL_S, wait_until

JOIN = ("slurmd", "-D", "-b", "-N", "{node}", "-f", "{conf}")
TOML = """
[[pool]]
name = "batch"
mode = "full"
step = 15
horizon = 900
gate = {{ floor_nights = 0, full_nights = 0 }}
{pool}
[[pool.group]]
name = "cloud"
provider = "slurm"
states = ["running", "hibernated", "stopped"]
max_nodes = {nodes}
[pool.group.options]
vendor = "local"
nodes = "cn[1-{nodes}]"
conf = "{conf}"
partition = "batch"
join = {join}
node_options = "NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]"
sample_s = 5.0
retry_s = {retry_s}
{options}
[[pool.group.offering]]
type = "m"
cpu = 2
memory = 4
usd_per_hour = 0.1
"""


@dataclass
class SlurmWorld:
    """A cluster with a pool; fits the contract suites of pools and of schedulers."""

    cluster: SlurmCluster
    home: Path
    config: Path
    pool: Pool
    clock: Clock = field(default_factory=WallClock)
    preload: Preload = field(default_factory=Preload)
    writes_logs = True
    observes = True
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.provider = self.again_provider()
        self.scheduler = self.again_scheduler()

    def again_provider(self) -> SlurmProvider:
        vendors: Mapping[str, PoolProvider] = {"local": LocalProvider(self.home, self.clock)}
        return SlurmProvider(self.clock, vendors.__getitem__)

    def again_scheduler(self) -> SlurmScheduler:
        return SlurmScheduler({self.pool.name: self.pool}, self.clock, self.home / "slurm" / "logs")

    @property
    def slurm(self) -> SlurmCommands:
        return connect(self.cluster.conf)

    # ---- for the pool suite

    def again(self) -> SlurmProvider:
        return self.again_provider()

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what, deadline_s=REAL_S, every_s=0.1)

    def occupy(self, node: Node) -> str:
        task = TaskRun(
            f"run-{node.node_id}-{next(self._numbers)}",
            "t",
            self.pool.name,
            TaskSpec("t", command=("sleep", "600")),
            "sig",
            State.READY,
        )
        self.scheduler.start(task, 0, node)
        claimant = task.claimant(0)
        self.until(lambda: claimant in self.runs_on(node.node_id), f"{claimant} to run")
        return claimant

    def runs_on(self, name: str) -> tuple[str, ...]:
        node = {n.node_id: n for n in self.provider.observe(self.pool).nodes}.get(name)
        return (node.running or ()) if node else ()

    def free(self, node: Node) -> None:
        for claimant in self.runs_on(node.node_id):
            self.scheduler.cancel(claimant, node)
        self.until(lambda: self.node(node.node_id).running == (), f"{node.node_id} to be free")

    def spoiled(self) -> Preload | None:
        return None

    def exhausted(self) -> Pool | None:
        return None

    def tiers(self) -> Pool | None:
        return None

    # ---- for the other tests

    def node(self, name: str) -> Node:
        return {n.node_id: n for n in self.provider.observe(self.pool).nodes}[name]

    def nodes(self) -> dict[str, Node]:
        return {n.node_id: n for n in self.provider.observe(self.pool).nodes}

    def wait(self, name: str, phase: Phase) -> Node:
        def there() -> bool:
            found = self.nodes().get(name)
            return found is not None and found.phase is phase

        self.until(there, f"{name} to be {phase}")
        return self.node(name)

    def machines(self) -> list[Node]:
        (group,) = slurm_groups(self.pool)
        return list(LocalProvider(self.home, self.clock).observe(group.theirs).nodes)

    def clear(self) -> None:
        """Nothing runs, nothing is powered up, no machine is left."""
        self.cluster.run("scancel", "--user=root", check=False)
        names = slurm_groups(self.pool)[0].names
        self.until(lambda: not self.slurm.jobs() or all(j.is_over for j in self.slurm.jobs()), "all jobs to end")

        def gone() -> bool:
            nodes = [n for n in self.slurm.nodes() if n.name in names]
            stays = [n.name for n in nodes if not n.is_gone and not n.is_going]
            self.slurm.update_nodes(stays, state="power_down_force")
            self.slurm.update_nodes([n.name for n in nodes if n.is_gone and n.is_down], state="resume")
            return all(n.is_gone and not (n.is_coming or n.is_down or n.is_drained) for n in nodes)

        self.until(gone, "all nodes to be powered down")
        self.until(self._no_machines, "all machines to be ended")

    def _no_machines(self) -> bool:
        """End what is kept; what is being suspended is on its way."""
        found = self.machines()
        kept = [m.node_id for m in found if m.phase in (Phase.STOPPED, Phase.HIBERNATED)]
        if kept:
            (group,) = slurm_groups(self.pool)
            LocalProvider(self.home, self.clock).terminate(group.theirs, kept)
        return not found

    def power_log(self) -> str:
        file = self.home / "slurm" / "preprov-power.log"
        return file.read_text() if file.exists() else ""


@contextmanager
def slurm_world(
    host: SlurmHost,
    home: Path,
    name: str,
    *,
    nodes: int = 4,
    pool: str = "",
    options: str = "",
    join: Sequence[str] = JOIN,
    retry_s: float = 60.0,
    suspend_s: float = 600.0,
    suspend_timeout_s: float = 1.0,
    resume_timeout_s: float = 300.0,
    more: tuple[str, ...] = (),
) -> Iterator[SlurmWorld]:
    """A cluster of that host, whose nodes live under `home`."""
    with cleared(home):
        config, first = home / "preprov.toml", free_ports(nodes)
        conf = host.folder / name / "slurm.conf"
        text = TOML.format(
            nodes=nodes,
            conf=conf,
            host=host.name,
            first=first,
            last=first + nodes - 1,
            pool=pool,
            options=options,
            join=json.dumps([*join]),
            retry_s=retry_s,
        )
        config.write_text(text)
        made = configfile.load(config).pools()["batch"]
        folder = home / "slurm"
        folder.mkdir(exist_ok=True)
        env = {"PREPROV_HOME": str(home), "PREPROV_CONFIG": str(config), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        part = fragment(
            [made],
            folder,
            [sys.executable, "-m", "preprov.cli.main"],
            {**env, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            suspend_s=suspend_s,
            suspend_timeout_s=suspend_timeout_s,
            resume_timeout_s=resume_timeout_s,
        )
        for file, script in part.scripts.items():
            (folder / file).write_text(script)
            (folder / file).chmod(0o755)
        with slurm_cluster(host, name, [*part.text.splitlines(), *more]) as cluster:
            yield SlurmWorld(cluster, home, config, made)
