"""The slurmrestd of a `FakeSlurm`: stands in for `httpx.get`."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import httpx

from preprov.slurm.errors import SlurmError
from preprov.testing import fake_slurm_wire as wire
from preprov.testing.fake_slurm import FakeSlurm

_TIMES: Final = {"start_time": "starttime", "end_time": "endtime"}


class FakeSlurmrestd:
    """Tells what the cluster's commands do, in the JSON of its era; which user asks, with what token, is all one to it.

    Args:
        slurm: the cluster. api: the one version that it has.
        private: PrivateData=jobs, and whoever asks is this user; "" = everybody sees all.
    """

    def __init__(self, slurm: FakeSlurm, api: str = "v0.0.38", *, private: str = "") -> None:
        self.slurm, self.api, self.private = slurm, api, private

    def get(self, url: str, *, params: Mapping[str, str] | None = None, **_: object) -> httpx.Response:
        """As `httpx.get`."""
        room, version, *path = httpx.URL(url).path.strip("/").split("/")
        try:
            text = self._answer(room, path, params or {}) if version == self.api else None
        except SlurmError as e:
            return httpx.Response(500, text=json.dumps({"errors": [{"error": e.said}]}))
        return httpx.Response(404, text="not here") if text is None else httpx.Response(200, text=text)

    def _answer(self, room: str, path: Sequence[str], params: Mapping[str, str]) -> str | None:
        slurm = self.slurm
        match room, *path:
            case ["slurm", "jobs"]:
                text = slurm.run(["squeue", "--json"])
                if not self.private:
                    return text
                return wire.document("jobs", [r for r in json.loads(text)["jobs"] if r["user_name"] == self.private])
            case ["slurm", "partitions"]:
                rows = [wire.partition(p, slurm.cpus, newer=slurm.newer) for p in slurm.partitions]
                return wire.document("partitions", rows)
            case ["slurm", "reservations"]:
                return wire.document("reservations", [wire.reservation(r) for r in slurm.reservations])
            case ["slurm", "ping"]:
                return json.dumps({"meta": {"Slurm": {"release": slurm.conf["SLURM_VERSION"]}}, "pings": []})
            case ["slurm", "diag"]:
                told: Any = wire.number(int(slurm.now()), slurm.newer)
                counts = {"jobs_pending": slurm.count("PENDING"), "jobs_running": slurm.count("RUNNING")}
                about = {"req_time": told, "job_states_ts": told, **counts}
                return json.dumps({"errors": [], "statistics": about})
            case ["slurmdb", "jobs"]:
                window = [f"--{_TIMES[k]}={_local(params[k])}" for k in _TIMES]
                return slurm.run(["sacct", "--json", f"--state={params['state']}", *window])
            case ["slurmdb", "job", number]:
                return slurm.run(["sacct", "--json", f"--jobs={number}"])
        return None


def _local(uts: str) -> str:
    """`uts1741111200` as `sacct` is given it."""
    at = datetime.fromtimestamp(int(uts.removeprefix("uts")))  # noqa: DTZ006
    return at.strftime("%Y-%m-%dT%H:%M:%S")
