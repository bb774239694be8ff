"""Real nodes for tests: a provider and a scheduler over a folder of the test's own."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import psutil

from preprov.agent.disk import is_held
from preprov.clocks import WallClock
from preprov.contracts import Clock, LaunchRequest
from preprov.launch.local import LocalScheduler
from preprov.model.agent import task_folder
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef, State, TaskRun, TaskSpec
from preprov.pools.local import LocalProvider
from preprov.testing.waiting import wait_until

KEEPS = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


class LocalWorld:
    """A pool of real nodes; fits both contract suites."""

    writes_logs = True
    observes = True

    def __init__(
        self,
        home: Path,
        *,
        clock: Clock | None = None,
        speed: float = 1.0,
        max_nodes: int = 8,
        capacity: Resources | None = None,
        ttl_s: float = 600.0,
        **options: object,
    ) -> None:
        self.home = home
        self.clock = clock or WallClock()
        self.speed = speed
        self.offering = Offering("m", capacity or Resources(cpu=2, memory=4), usd_per_hour=0.1)
        group = Group("g", "local", (self.offering,), standby_states=KEEPS, max_nodes=max_nodes, options=options)
        self.pool = Pool("batch", (group,), mode=Mode.FULL, node_ttl_s=ttl_s)
        self.provider = self.again()
        self.scheduler = LocalScheduler(home, self.clock, speed=speed)
        self.preload = Preload(datasets=(self.dataset("data.csv", "a,b\n1,2\n"),))

    # ---- for the suites

    def again(self) -> LocalProvider:
        return LocalProvider(self.home, self.clock, speed=self.speed)

    def until(self, look: Callable[[], bool], what: str) -> None:
        wait_until(look, what=what)

    def occupy(self, node: Node) -> str:
        """A task that runs until `free`."""
        wait = f"while [ ! -e {self._flag(node)} ]; do sleep 0.02; done"
        return self.run(node, ["sh", "-c", wait], run_id=f"run-{node.node_id}")

    def free(self, node: Node) -> None:
        self._flag(node).touch()
        self.until(lambda: all(r.ended_at for r in self.scheduler.poll([node])), f"{node.node_id} to be free")

    def _flag(self, node: Node) -> Path:
        return self.home / f"{node.node_id}.over"

    def spoiled(self) -> Preload:
        (good,) = self.preload.datasets
        return Preload(datasets=(replace(good, sha256="0" * 64),))

    def exhausted(self) -> Pool:
        return self.pool_with(capacity=0)

    def tiers(self) -> Pool:
        small = Offering("s", Resources(cpu=1, memory=2), usd_per_hour=0.05)
        return replace(self.pool, groups=(replace(self.pool.groups[0], offerings=(self.offering, small)),))

    # ---- for the other tests

    def pool_with(self, **options: object) -> Pool:
        group = replace(self.pool.groups[0], options={**self.pool.groups[0].options, **options})
        return replace(self.pool, groups=(group,))

    def request(self, n: int = 1, token: str = "token", preload: Preload = Preload()) -> LaunchRequest:  # noqa: B008
        return LaunchRequest(self.pool, "g", self.offering, n, token, preload)

    def node(self, node_id: str) -> Node:
        return {n.node_id: n for n in self.provider.observe(self.pool).nodes}[node_id]

    def ready(self, n: int = 1, token: str = "token", preload: Preload = Preload()) -> list[Node]:  # noqa: B008
        ids = self.provider.launch(self.request(n, token, preload))
        return [self.wait(i, Phase.READY) for i in ids]

    def wait(self, node_id: str, phase: Phase) -> Node:
        def look() -> Node | None:
            node = self.node(node_id)
            return node if node.phase is phase else None

        node = wait_until(look, what=f"{node_id} to be {phase}")
        assert node is not None
        return node

    def run(self, node: Node, command: Iterable[str], run_id: str = "run-1", **spec: object) -> str:
        """Start a command; returns its claimant."""
        task = TaskRun(
            run_id,
            "t",
            self.pool.name,
            TaskSpec("t", command=tuple(command), **spec),
            "sig",
            State.READY,  # type: ignore[arg-type]
        )
        self.scheduler.start(task, 0, node)
        return task.claimant(0)

    def dataset(self, name: str, text: str, version: str = "v1") -> DatasetRef:
        path = self.home / name
        path.write_text(text)
        return DatasetRef(str(path), version, hashlib.sha256(text.encode()).hexdigest())

    def folder(self, node: Node) -> Path:
        return Path(node.address.removeprefix("unix:")).parent

    def task_folder(self, node: Node, claimant: str) -> Path:
        return self.folder(node) / "tasks" / task_folder(claimant)

    def pids(self, node: Node) -> dict[str, int]:
        """Of the agent and of the process that watches over it."""
        return {k: v[0] for k, v in json.loads((self.folder(node) / "processes.json").read_text()).items()}

    def kill_agent(self, node: Node) -> None:
        """Both processes, as an out-of-memory killer might."""
        gone = [psutil.Process(p) for p in self.pids(node).values()]
        for p in gone:
            p.kill()
        wait_until(lambda: not is_held(self.folder(node) / "agent.lock"), what="both to be gone")

    def kill_hibernated(self, node: Node) -> None:
        """Its processes die while they stand still, as all do when the machine under them is switched off."""
        gone = [psutil.Process(p) for p in self.pids(node).values()]
        for p in gone:
            p.kill()
        command = [sys.executable, "-m", "preprov.agent", "thaw", str(self.folder(node))]
        subprocess.run(command, check=True, capture_output=True)  # a frozen process dies when it is thawed
        wait_until(lambda: not is_held(self.folder(node) / "agent.lock"), what="both to be gone")


# ---- images


def tar_of(members: Iterable[tuple[str, bytes | str | None]]) -> bytes:
    """A tar: bytes = file, None = folder, "->target" = symbolic link, "=>target" = hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                info.mode = 0o755
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content[2:]
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def oci_layout(folder: Path, layers: Iterable[bytes]) -> ImageRef:
    """An OCI layout of these layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "config": blob(b'{"architecture":"amd64","os":"linux"}', "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar+gzip") for layer in layers],
    }
    descriptor = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return ImageRef(str(folder), str(descriptor["digest"]))
