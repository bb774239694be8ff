"""A cluster that behaves, on any clock: its containers run nothing, and use what a script says.

One that uses more memory than its limit is killed for it, at the second at which it does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from preprov.model.quantity import quantity
from preprov.testing.fake_containers import FakeContainers, Used
from preprov.testing.fake_kubernetes import Json

_GIB: Final = 2.0**30
_CLAIMANT: Final = "preprov.io/claimant"


def _idle(_: str, __: float) -> tuple[float, float]:
    return 0.1, 0.1


@dataclass
class ScriptedKubelet(FakeContainers):
    """The same cluster.

    Attributes:
        load: (cores, GiB) of a task by its claimant after so many seconds; it ends when its `sleep` would.
        measured_s: the metrics server looks so often. killed: claimants of what used more memory than it might.
        limits: of each claimant, (seconds since its start, bytes of its memory limit) whenever that changed.
    """

    load: Callable[[str, float], tuple[float, float]] = _idle
    measured_s: float = 15.0
    killed: list[str] = field(default_factory=list)
    limits: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _looked: dict[str, float] = field(default_factory=dict)

    def output(self, pod: Json) -> str | None:
        """One line."""
        return "so it goes\n" if pod["metadata"]["uid"] in self._began else None

    def used(self, pod: Json) -> Used | None:
        """At the last look of the metrics server."""
        began = self._began.get(pod["metadata"]["uid"])
        at = self.now() // self.measured_s * self.measured_s
        if began is None or at < began:
            return None
        cpu, memory = self.load(_claimant(pod), at - began)
        return Used(at, cpu, memory * _GIB)

    def contained(self) -> None:
        """Containers begin, end when their time is over, and are killed for memory."""
        for pod in list(self._live()):
            uid, now = pod["metadata"]["uid"], self.now()
            if pod["status"].get("phase") != "Running" or _CLAIMANT not in pod["metadata"]["annotations"]:
                continue
            if uid not in self._began:
                self.begin(pod)
                self._began[uid] = self._looked[uid] = now
            self._live_on(pod, self._began[uid], now)

    def _live_on(self, pod: Json, began: float, now: float) -> None:
        uid, claimant = pod["metadata"]["uid"], _claimant(pod)
        limit = _limit(pod)
        seen = self.limits.setdefault(claimant, [])
        if not seen or seen[-1][1] != limit:
            seen.append((now - began, limit))
        at = self._looked[uid]
        while at <= now:
            if self.load(claimant, at - began)[1] * _GIB > limit:
                self.killed.append(claimant)
                self.ended(pod, 137, "OOMKilled")
                return
            at += 1.0
        self._looked[uid] = at
        command = pod["spec"]["containers"][0]["command"]
        if command[0] == "sleep" and now >= began + float(command[1]):
            self.ended(pod, 0)


def _claimant(pod: Json) -> str:
    return str(pod["metadata"]["annotations"][_CLAIMANT])


def _limit(pod: Json) -> float:
    """Of memory, as it is in force."""
    (said,) = pod["status"]["containerStatuses"]
    has = said.get("resources") or pod["spec"]["containers"][0].get("resources", {})
    limit = has.get("limits", {}).get("memory")
    return float("inf") if limit is None else quantity(limit)
