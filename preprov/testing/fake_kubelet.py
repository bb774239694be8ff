"""A cluster that behaves and really runs what its pods say: each container's command is a process of this machine.

With a metrics server, output, and pods that are resized in place.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from preprov.testing.fake_cluster import FakeCluster
from preprov.testing.fake_kubernetes import FakeKubernetes, Json, stamp, status

_METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/"


@dataclass
class FakeKubelet(FakeCluster):
    """The same cluster.

    Attributes:
        folder: where output goes. metered: there is a metrics server.
    """

    folder: Path = field(default_factory=Path)
    metered: bool = True
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Json) -> tuple[int, Json]:
        """Status and body of one request."""
        if path.startswith(_METRICS):
            self.settle()
            return (200, {"items": self._metrics()}) if self.metered else (404, status(404, "NotFound"))
        if path.endswith("/resize"):
            return FakeKubernetes.answer(self, method, path, query, body)
        if path.endswith("/log"):
            parts = path.split("/")
            pod = self._named("pods", parts[-4], parts[-2])
            file = self._file(pod) if pod is not None else None
            return (200, {"text": file.read_text()}) if file and file.exists() else (404, status(404, "NotFound"))
        return super().answer(method, path, query, body)

    def _file(self, pod: Json) -> Path:
        return self.folder / f"{pod['metadata']['uid']}.log"

    def _metrics(self) -> list[Json]:
        usage = {"cpu": "250000000n", "memory": "20480Ki"}
        return [
            {
                "metadata": {"name": p["metadata"]["name"], "labels": p["metadata"]["labels"]},
                "timestamp": datetime.now(UTC).isoformat(),
                "containers": [{"name": c["name"], "usage": usage} for c in p["spec"]["containers"]],
            }
            for p in self._live()
            if p["metadata"]["uid"] in self._running
        ]

    def settle(self) -> None:
        """Everything that has to happen by now, processes too."""
        super().settle()
        pods = self.objects["pods"]
        for uid, process in list(self._running.items()):
            if uid not in pods:
                self._kill(process)
                del self._running[uid]
            elif process.poll() is not None:
                self._over(pods[uid], process.returncode)
                del self._running[uid]
        for pod in list(pods.values()):
            if pod["status"].get("phase") == "Running" and "containerStatuses" not in pod["status"]:
                self._begin(pod)
        super().settle()

    def _begin(self, pod: Json) -> None:
        container = pod["spec"]["containers"][0]
        if not container.get("command"):
            return
        env = {**os.environ, **{e["name"]: e["value"] for e in container.get("env", ())}}
        with self._file(pod).open("wb") as out:
            self._running[pod["metadata"]["uid"]] = subprocess.Popen(
                container["command"], env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        state = {"running": {"startedAt": stamp(self.now())}}
        pod["status"]["containerStatuses"] = [{"name": container["name"], "state": state}]

    def _over(self, pod: Json, code: int) -> None:
        (said,) = pod["status"]["containerStatuses"]
        began = said["state"]["running"]["startedAt"]
        ended = {"exitCode": code if code >= 0 else 128 - code, "startedAt": began, "finishedAt": stamp(self.now())}
        said["state"] = {"terminated": ended}
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        self.bump(pod)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End everything."""
        for process in self._running.values():
            self._kill(process)
        self._running.clear()
