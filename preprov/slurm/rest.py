"""The same cluster over slurmrestd, with a JWT: for a machine without Slurm's commands."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import listed
from preprov.slurm.errors import SlurmError, Trouble, trouble_of
from preprov.slurm.records import ENDED, Partition, Reservation, SlurmJob, SlurmNode
from preprov.slurm.shapes import Json, instant, whole
from preprov.slurm.stepstat import StepStat

_WAIT_S: Final = 60.0
_DENIED: Final = (401, 403)
_GATEWAY_TIMEOUT: Final = 504


class SlurmRest:
    """Reads a cluster over HTTP; writes nothing.

    Args:
        url: of slurmrestd. user: whose JWT it is. token: gives it, anew for each request, for it expires.
        version: of its API, such as v0.0.38.
        verify: False, or a file with the certificates to trust.
    """

    jobs_a_question: Final = 1
    """Its accounting tells of one job by its number, or of all."""
    looks_a_question: Final = 0

    def __init__(
        self, url: str, user: str, token: Callable[[], str], *, version: str = "v0.0.38", verify: bool | Path = True
    ) -> None:
        self._url = url.rstrip("/")
        self._user, self._token, self._version = user, token, version
        self._verify = str(verify) if isinstance(verify, Path) else verify

    def nodes(self) -> tuple[SlurmNode, ...]:
        """All nodes."""
        return tuple(SlurmNode.of(n) for n in self._list("slurm", "nodes", "nodes"))

    def jobs(self) -> tuple[SlurmJob, ...]:
        """Jobs the controller still knows."""
        return tuple(SlurmJob.of(j) for j in self._list("slurm", "jobs", "jobs"))

    def ended(self, since: datetime, until: datetime) -> tuple[AccountedJob, ...]:
        """Jobs of everybody that ended in [since, until]."""
        query = {
            "start_time": f"uts{int(since.timestamp())}",  # the one way to name an instant that every version takes
            "end_time": f"uts{int(until.timestamp())}",
            "state": ",".join(ENDED),
        }
        found = (AccountedJob.of(j) for j in self._list("slurmdb", "jobs", "jobs", query))
        return tuple(j for j in found if j.is_over)  # 22.05 knows no filter by state, and gives all

    def of_jobs(self, jobs: Sequence[int]) -> tuple[AccountedJob, ...]:
        """These jobs, whenever they were."""
        out: list[AccountedJob] = []
        for job in jobs:
            try:
                out += [AccountedJob.of(j) for j in self._list("slurmdb", f"job/{job}", "jobs")]
            except SlurmError as e:
                if e.trouble is not Trouble.NOT_FOUND:
                    raise
        return tuple(out)

    def submit_lines(self, jobs: Sequence[int]) -> Mapping[int, str]:
        """None: where slurmrestd tells them, they are in the jobs."""
        return {}

    def partitions(self) -> tuple[Partition, ...]:
        """All partitions."""
        return tuple(Partition.of(p) for p in self._list("slurm", "partitions", "partitions"))

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations in force or to come."""
        return tuple(Reservation.of(r) for r in self._list("slurm", "reservations", "reservations"))

    def usage(self, jobs: Sequence[int]) -> tuple[StepStat, ...]:
        """None: it has no `sstat`."""
        return ()

    def hidden(self) -> tuple[str, ...]:
        """None: it does not tell its PrivateData. What `counted` says shows some of it."""
        return ()

    def counted(self) -> int | None:
        """Jobs that wait or run, as the controller counts them every half minute for whoever asks; None = not told."""
        try:
            told = self._table("diag").get("statistics")
        except SlurmError:  # `clock` says so
            return None
        if not isinstance(told, Mapping) or instant(told.get("job_states_ts")) is None:
            return None
        return whole(told.get("jobs_pending")) + whole(told.get("jobs_running"))

    def version(self) -> str:
        """Of Slurm."""
        told = self._table("ping").get("meta")
        meta = told if isinstance(told, Mapping) else {}
        said = meta.get("Slurm") or meta.get("slurm")  # the one up to 23.02, the other since
        return str(said.get("release") or "unknown") if isinstance(said, Mapping) else "unknown"

    def clock(self) -> float | None:
        """What time it is for the controller, epoch seconds; None = it does not say."""
        try:
            told = self._table("diag").get("statistics")
        except SlurmError as e:
            if e.trouble in (Trouble.UNREACHABLE, Trouble.TOO_MUCH, Trouble.GARBLED):
                raise
            return None
        return instant(told.get("req_time")) if isinstance(told, Mapping) else None

    def _table(self, path: str) -> Json:
        try:
            answer = json.loads(self._get("slurm", path, {}))
        except ValueError as e:
            raise SlurmError(Trouble.GARBLED, f"not JSON, or cut short: {e}", f"GET {path}") from None
        return answer if isinstance(answer, Mapping) else {}

    def _list(self, room: str, path: str, key: str, query: Mapping[str, str] | None = None) -> list[Json]:
        return listed(self._get(room, path, query or {}), key, f"GET {path}")

    def _get(self, room: str, path: str, query: Mapping[str, str]) -> str:
        import httpx

        where, url = f"GET {path}", f"{self._url}/{room}/{self._version}/{path}"
        headers = {"X-SLURM-USER-NAME": self._user, "X-SLURM-USER-TOKEN": self._token()}
        try:
            answer = httpx.get(url, params=dict(query), headers=headers, timeout=_WAIT_S, verify=self._verify)
        except httpx.ReadTimeout:
            said = f"{self._url} did not answer within {_WAIT_S:g} s"
            raise SlurmError(Trouble.TOO_MUCH, said, where) from None
        except httpx.HTTPError as e:
            raise SlurmError(Trouble.UNREACHABLE, f"{self._url} does not answer: {type(e).__name__}", where) from None
        if answer.status_code in _DENIED:
            said = "the token is not accepted: it may have expired (`scontrol token lifespan=…`)"
            raise SlurmError(Trouble.DENIED, said, where)
        if answer.status_code == httpx.codes.NOT_FOUND and path.startswith("job/"):
            raise SlurmError(Trouble.NOT_FOUND, "no such job", where)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise SlurmError(Trouble.UNSUPPORTED, f"it has no API {self._version}", where)
        if answer.is_error:  # its lists are there and empty: they must not pass for a queue without jobs
            said = _errors(answer.text) or " ".join(answer.text.split())[:200]
            said += " (22.05 says this of a token that has expired)" if "unspecified" in said.lower() else ""
            raise SlurmError(_of_status(answer.status_code, said), f"{answer.status_code}: {said}", where)
        return answer.text


def _errors(text: str) -> str:
    """What an answer says is wrong; "" if it is no JSON, or says nothing."""
    try:
        errors = json.loads(text).get("errors") or ()
    except (ValueError, AttributeError):
        return ""
    return "; ".join(str(e.get("description") or e.get("error") or "") for e in errors if isinstance(e, dict))[:200]


def _of_status(status: int, said: str) -> Trouble:
    """A server that fails may answer later; slurmrestd says 500 for a token it does not take as well."""
    if "authentication" in said.lower():
        return Trouble.DENIED
    if status == _GATEWAY_TIMEOUT:
        return Trouble.TOO_MUCH
    known = trouble_of(said)
    return Trouble.UNREACHABLE if status >= 500 and known is Trouble.REFUSED else known
