"""A cluster that behaves and really runs what its pods say: each container's command is a process of this machine."""

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from preprov.testing.fake_containers import FakeContainers, Used
from preprov.testing.fake_kubernetes import Json


@dataclass
class FakeKubelet(FakeContainers):
    """The same cluster.

    Attributes:
        folder: where output goes.
    """

    folder: Path = field(default_factory=Path)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def _file(self, pod: Json) -> Path:
        return self.folder / f"{pod['metadata']['uid']}.log"

    def output(self, pod: Json) -> str | None:
        """What it has printed."""
        file = self._file(pod)
        return file.read_text() if file.exists() else None

    def used(self, pod: Json) -> Used | None:
        """Always the same."""
        return Used(self.now(), 0.25, 20 * 2.0**20) if pod["metadata"]["uid"] in self._running else None

    def contained(self) -> None:
        """Processes begin, and are waited for."""
        pods = self.objects["pods"]
        for uid, process in list(self._running.items()):
            if uid not in pods:
                self._kill(process)
                del self._running[uid]
            elif process.poll() is not None:
                code = process.returncode
                self.ended(pods[uid], code if code >= 0 else 128 - code)
                del self._running[uid]
        for pod in list(pods.values()):
            if pod["status"].get("phase") == "Running" and "containerStatuses" not in pod["status"]:
                self._begin(pod)

    def _begin(self, pod: Json) -> None:
        container = pod["spec"]["containers"][0]
        if not container.get("command"):
            return
        env = {**os.environ, **{e["name"]: e["value"] for e in container.get("env", ())}}
        with self._file(pod).open("wb") as out:
            self._running[pod["metadata"]["uid"]] = subprocess.Popen(
                container["command"], env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.begin(pod)

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
