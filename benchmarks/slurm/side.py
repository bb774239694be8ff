"""One side of the comparison: a cluster with cloud nodes of its own, with or without preprov in charge of them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.slurm.workload import FIRST_HOUR, MEMORY_MIB, SPEED, Submission, crontab
from preprov.clocks import ScaledClock
from preprov.testing.local_nodes import cleared
from preprov.testing.slurm_cluster import SlurmCluster, SlurmHost, end, free_ports, slurm_cluster

ROOT: Final = Path(__file__).resolve().parent.parent.parent
D0: Final = datetime(2025, 3, 3, FIRST_HOUR, tzinfo=UTC)
"""When the first night begins, on the clock."""
SUSPEND_TIMEOUT_S: Final = 5

CONFIG: Final = """
[controller]
tick_seconds = {tick}
plan_seconds = {plan}

[guard]
max_nodes = {nodes}
stale_source = {patient}

[[pool]]
name = "batch"
mode = "{mode}"
binding = ["cpu", "memory"]
step = 300
horizon = 43200
lease = {patient}
node_ttl = {patient}

[pool.gate]
floor_nights = 0
full_nights = 0

[pool.objective]
{objective}

[[pool.group]]
name = "cloud"
provider = "slurm"
states = ["running"]
max_nodes = {nodes}

[pool.group.options]
vendor = "local"
nodes = "cn[1-{nodes}]"
conf = "{conf}"
partition = "batch"
join = ["slurmd", "-D", "-b", "-N", "{{node}}", "-f", "{{conf}}"]
node_options = "NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]"
sample_s = 30.0
delay = {{ median_s = {median}, p95_s = {p95} }}

[[pool.group.offering]]
type = "m"
cpu = 2
memory = 4
usd_per_hour = 0.1
minimum_billing = 0

[pool.group.lead.cold]
median = {median}
p95 = {p95}

[[source]]
name = "cluster"
kind = "slurm"
conf = "{conf}"
pool = "batch"
every = {every}
requests_per_second = 5
history_days = 1
crontab = ["{crontab}"]
"""


@dataclass(frozen=True)
class Terms:
    """What all sides have in common.

    Attributes:
        delay_s: (median, p95) of what a machine takes to be had and to boot, wall seconds, lognormal.
        nodes: how many a cluster can have. objective: of preprov, a line of its configuration.
    """

    delay_s: tuple[float, float] = (20.0, 45.0)
    nodes: int = 16
    objective: str = "hit_rate = 0.95"


@dataclass
class Side:
    """A cluster.

    Attributes:
        name: of the cluster. suspend_s: Slurm's SuspendTime. began: wall time at which the first night begins.
        preprov: True if preprov is to be in charge after the history.
    """

    host: SlurmHost
    name: str
    seed: int
    suspend_s: int
    began: float
    terms: Terms
    home: Path
    preprov: bool = False
    cluster: SlurmCluster | None = None
    errors: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _controller: subprocess.Popen[bytes] | None = None

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.host.folder / self.name / "slurm.conf"

    @property
    def config(self) -> Path:
        """Its preprov.toml."""
        return self.home / "preprov.toml"

    @property
    def slurm(self) -> SlurmCluster:
        """The running cluster."""
        assert self.cluster is not None
        return self.cluster

    @property
    def env(self) -> dict[str, str]:
        """For preprov's commands: its home, its configuration, and the clock of the nights."""
        clock = ScaledClock(D0, SPEED, began=self.began)
        return {
            **os.environ,
            "PREPROV_HOME": str(self.home),
            "PREPROV_CONFIG": str(self.config),
            "PREPROV_CLOCK": clock.text,
            "PREPROV_LOG_LEVEL": "info",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> None:
        """Write everything and start slurmctld."""
        self.home.mkdir(parents=True)
        self._stack.enter_context(cleared(self.home))
        lines = [f"{j.cron} root sbatch --job-name={j.name} /opt/{j.name}.sh" for j in crontab(self.seed)]
        (self.home / "crontab").write_text("CRON_TZ=UTC\n" + "\n".join(lines) + "\n")
        self.first_port = free_ports(self.terms.nodes)
        self.configure("observe")
        folder = self.home / "slurm"
        self.call(
            *("slurm", "config", "--write", str(folder)),
            *("--suspend-time", str(self.suspend_s), "--suspend-timeout", str(SUSPEND_TIMEOUT_S)),
            *("--resume-timeout", "180"),
        )
        # What a job uses is read by each of them from all of /proc: with hundreds at once that is all a host can do.
        lines = [*(folder / "preprov.conf").read_text().splitlines(), "JobAcctGatherFrequency=0"]
        self.cluster = self._stack.enter_context(slurm_cluster(self.host, self.name, lines))

    def configure(self, mode: str) -> None:
        """Write preprov.toml."""
        median, p95 = (s * SPEED for s in self.terms.delay_s)
        text = CONFIG.format(
            tick=3 * SPEED,
            plan=3 * SPEED,
            every=2 * SPEED,
            patient=600 * SPEED,
            nodes=self.terms.nodes,
            mode=mode,
            objective=self.terms.objective,
            conf=self.conf,
            host=self.host.name,
            first=self.first_port,
            last=self.first_port + self.terms.nodes - 1,
            median=median,
            p95=p95,
            crontab=self.home / "crontab",
        )
        self.config.write_text(text)

    # ---- preprov

    def call(self, *words: str, check: bool = True) -> str:
        """One of preprov's commands; what it prints."""
        argv = [sys.executable, "-m", "preprov.cli.main", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.env, cwd=ROOT)
        if check and done.returncode:
            raise RuntimeError(f"preprov {' '.join(words)}: {done.stderr[-2000:] or done.stdout[-2000:]}")
        return done.stdout

    def ask(self, *words: str) -> dict[str, Any]:
        """The same as JSON."""
        found: dict[str, Any] = json.loads(self.call(*words, "-o", "json"))
        return found

    def controller(self, mode: str) -> None:
        """Have preprov watch the pool, in that mode."""
        self.dismiss()
        self.configure(mode)
        log = (self.home / "controller.log").open("ab")
        argv = [sys.executable, "-m", "preprov.cli.main", "up", "--no-prefect"]
        self._controller = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=ROOT, start_new_session=True
        )

    def dismiss(self) -> None:
        """End the controller."""
        if self._controller is not None:
            end(self._controller, 30.0)
            self._controller = None

    # ---- work

    def submit(self, what: Submission) -> None:
        """As cron or a person would; a failure is noted and the night goes on."""
        k = len(what.runtimes_s)
        common = [
            "--mem",
            f"{MEMORY_MIB}M",
            "-n1",
            "-c1",
            "--output=/dev/null",
            "--partition=batch",
            f"--job-name={what.name}",
        ]
        times = " ".join(str(r) for r in what.runtimes_s)
        script = f'#!/bin/bash\nt=({times})\nexec sleep "${{t[${{SLURM_ARRAY_TASK_ID:-0}}]}}"\n'
        try:
            array = [f"--array=0-{k - 1}"] if k > 1 else []
            job = self.slurm.submit(*common, *array, script=script)
            if what.merge_s:
                after = f"--dependency=afterok:{job}"
                self.slurm.submit(
                    *common, after, f"--job-name={what.name}-merge", script=f"#!/bin/sh\nexec sleep {what.merge_s}\n"
                )
        except AssertionError as e:
            self.errors.append(f"{time.time():.0f}: {e}")

    def stop(self) -> None:
        """End everything of this side."""
        self.dismiss()
        self._stack.close()


class Stopped(Exception):
    """Somebody asked the benchmark to end."""


@dataclass
class Waiting:
    """Waits that can be cut short from another thread."""

    stopping: threading.Event = field(default_factory=threading.Event)

    def until(self, wall: float) -> None:
        """Return at that wall time.

        Raises:
            Stopped: asked to end before.
        """
        if self.stopping.wait(max(wall - time.time(), 0.0)):
            raise Stopped


def play(sides: Sequence[Side], what: Sequence[Submission], began: float, waiting: Waiting) -> None:
    """Submit a night's work to all sides at the same moments; `began`: of the night, wall."""
    with ThreadPoolExecutor(max(len(sides), 1)) as pool:
        for s in what:
            waiting.until(began + s.at_s)
            list(pool.map(lambda side, s=s: side.submit(s), sides))
