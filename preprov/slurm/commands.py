"""Slurm's commands: run, and what they print as values."""

import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from preprov.slurm.accounting import AccountedJob
from preprov.slurm.errors import SlurmError, Trouble, trouble_of
from preprov.slurm.records import ENDED, Partition, Reservation, SlurmJob, SlurmNode
from preprov.slurm.shapes import Json
from preprov.slurm.stepstat import StepStat, step_stats

Runner: TypeAlias = Callable[[Sequence[str], str | None], str]
"""Runs a command (argv, standard input) and returns what it printed; raises SlurmError."""

_WAIT_S: Final = 60.0
_PATHS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AT_ONCE: Final = 500
_CLOCK: Final = "%Y-%m-%dT%H:%M:%S"
_SDIAG: Final = re.compile(r"sdiag output at .*\((\d+)\)")
_POWERED_DOWN: Final = "~"
"""How Slurm marks it in the state of a node."""


def run_command(conf: Path | None = None, *, wait_s: float = _WAIT_S) -> Runner:
    """A runner of the programs on this machine's PATH.

    Args:
        conf: slurm.conf of the cluster; None = as Slurm finds it.
        wait_s: a command that takes longer is given up.
    """
    # Programs that slurmctld starts have an empty PATH.
    env = {**os.environ, "PATH": os.environ.get("PATH") or _PATHS, "LC_ALL": "C.UTF-8"}
    env["SLURM_BITSTR_LEN"] = "0"  # else lists of an array's elements are cut after 64 characters
    env.pop("SLURM_TIME_FORMAT", None)  # sacct 22.05 cannot write JSON in another format of times
    if conf is not None:
        env["SLURM_CONF"] = str(conf)

    def run(argv: Sequence[str], stdin: str | None = None) -> str:
        where = " ".join(argv[:2])
        if shutil.which(argv[0], path=env["PATH"]) is None:
            raise SlurmError(Trouble.MISSING, f"{argv[0]} is not on the PATH", where)
        try:
            done = subprocess.run(
                list(argv), input=stdin or "", capture_output=True, env=env, timeout=wait_s, text=True, errors="replace"
            )
        except subprocess.TimeoutExpired:
            raise SlurmError(Trouble.TOO_MUCH, f"{argv[0]} did not end within {wait_s:g} s", where) from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:500] or f"exit code {done.returncode}"
            raise SlurmError(trouble_of(said), said, where)
        return done.stdout

    return run


@dataclass(frozen=True, slots=True)
class PowerSpan:
    """A time for which a node was powered down, epoch seconds; `ended`: None = it still is."""

    node: str
    began: float
    ended: float | None


class SlurmCommands:
    """A cluster through its commands.

    Args:
        run: how commands are run.
    """

    jobs_a_question: Final = _AT_ONCE
    """How many numbers of jobs one command takes."""
    looks_a_question: Final = 100
    """The nodes of each running job are asked in turn."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    # ---- what there is

    def nodes(self) -> tuple[SlurmNode, ...]:
        """All nodes."""
        return tuple(SlurmNode.of(n) for n in self._either("nodes", ["scontrol", "show", "nodes", "--json"], _SINFO))

    def jobs(self) -> tuple[SlurmJob, ...]:
        """Jobs the controller still knows: pending, running, and those that ended within its MinJobAge."""
        return tuple(SlurmJob.of(j) for j in self._json(["squeue", "--json", "--all", "--states=all"], "jobs"))

    def accounting(
        self, since: datetime, until: datetime, *, jobs: Iterable[int] = (), user: str = ""
    ) -> tuple[AccountedJob, ...]:
        """Jobs that were in any state in [since, until], requeued attempts apart.

        Args:
            jobs: only these, if any are named. user: only this one's; "" = everybody's.
        """
        argv = ["sacct", "--json", "--duplicates", f"--starttime={_local(since)}", f"--endtime={_local(until)}"]
        named = ",".join(str(j) for j in jobs)
        argv += [f"--user={user}"] if user else ["--allusers"]
        argv += [f"--jobs={named}"] if named else []
        return tuple(AccountedJob.of(j) for j in self._json(argv, "jobs"))

    def ended(self, since: datetime, until: datetime) -> tuple[AccountedJob, ...]:
        """Jobs of everybody that ended in [since, until]; of one that was requeued the last attempt."""
        window = [f"--starttime={_local(since)}", f"--endtime={_local(until)}", f"--state={','.join(ENDED)}"]
        return tuple(AccountedJob.of(j) for j in self._json(["sacct", "--json", "--allusers", *window], "jobs"))

    def of_jobs(self, jobs: Sequence[int]) -> tuple[AccountedJob, ...]:
        """These jobs, whenever they were; elements of an array by the number of the array."""
        if not jobs:
            return ()
        argv = ["sacct", "--json", "--allusers", f"--jobs={','.join(str(j) for j in jobs)}"]
        return tuple(AccountedJob.of(j) for j in self._json(argv, "jobs"))

    def powered_down(self, since: datetime, until: datetime) -> tuple[PowerSpan, ...]:
        """Times in [since, until] for which nodes were powered down, as the accounting database has recorded them."""
        argv = ["sacctmgr", "-n", "-P", "show", "event", f"start={_local(since)}", f"end={_local(until)}"]
        text = self._run([*argv, "format=nodename,state,timestart,timeend"], None)
        out = []
        for line in text.splitlines():
            node, _, rest = line.partition("|")
            state, _, times = rest.partition("|")
            began, ended = (_wall(t) for t in times.partition("|")[::2])
            if node and _POWERED_DOWN in state and began is not None:
                out.append(PowerSpan(node, began, ended))
        return tuple(out)

    def version(self) -> str:
        """Of Slurm, once its controller has answered."""
        return self.settings().get("SLURM_VERSION", "unknown")

    def clock(self) -> float | None:
        """What time it is for the controller, epoch seconds; None = `sdiag` is not to be had, or says nothing of it."""
        try:
            told = _SDIAG.search(self._run(["sdiag"], None))
        except SlurmError as e:
            if e.trouble in (Trouble.UNREACHABLE, Trouble.TOO_MUCH, Trouble.GARBLED):
                raise
            return None
        return float(told[1]) if told else None

    def submit_lines(self, jobs: Sequence[int]) -> Mapping[int, str]:
        """Commands by which jobs were submitted, where Slurm keeps them."""
        out: dict[int, str] = {}
        for i in range(0, len(jobs), _AT_ONCE):
            named = ",".join(str(j) for j in jobs[i : i + _AT_ONCE])
            text = self._run(["sacct", "-n", "-P", "-X", "-a", "-o", "JobIDRaw,SubmitLine", f"--jobs={named}"], None)
            for line in text.splitlines():
                job, _, command = line.partition("|")
                if job.isdigit():
                    out[int(job)] = command
        return out

    def partitions(self) -> tuple[Partition, ...]:
        """All partitions."""
        return tuple(Partition.of(p) for p in self._shown("partitions", "partition", _PARTITION))

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations in force or to come."""
        return tuple(Reservation.of(r) for r in self._shown("reservations", "reservation", _RESERVATION))

    def usage(self, jobs: Sequence[int]) -> tuple[StepStat, ...]:
        """What the steps of running jobs have used so far; jobs without a step, or that have ended, are left out."""
        out: list[StepStat] = []
        for i in range(0, len(jobs), _AT_ONCE):
            named = ",".join(str(j) for j in jobs[i : i + _AT_ONCE])
            fields = ",".join(StepStat.FIELDS)
            try:
                out += step_stats(
                    self._run(["sstat", "-a", "-n", "-P", "--noconvert", "-o", fields, "-j", named], None)
                )
            except SlurmError as e:
                if "no steps running" not in e.said.lower() and e.trouble is not Trouble.NOT_FOUND:
                    raise
        return tuple(out)

    def settings(self) -> Mapping[str, str]:
        """slurm.conf in force."""
        out = {}
        for line in self._run(["scontrol", "show", "config"], None).splitlines():
            key, found, value = line.partition("=")
            if found:
                out[key.strip()] = value.strip()
        return out

    def hidden(self) -> tuple[str, ...]:
        """Kinds of things of which this user sees but its own, such as `jobs`: PrivateData hides those of others."""
        settings = self.settings()
        kinds = tuple(k for k in settings.get("PrivateData", "").lower().split(",") if k and k != "none")
        if not kinds or os.geteuid() == 0 or f"({os.geteuid()})" in settings.get("SlurmUser", ""):
            return ()
        return () if self._admin_level() in ("operator", "administrator") else kinds

    def counted(self) -> int | None:
        """None: `hidden` tells what this user does not see."""
        return None

    def _admin_level(self) -> str:
        """Of this user; "" if the accounting does not say."""
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
            said = self._run(["sacctmgr", "-n", "-P", "show", "user", name, "format=adminlevel"], None)
        except (KeyError, SlurmError):
            return ""
        return said.strip().lower()

    def hosts(self, expression: str) -> tuple[str, ...]:
        """The names a host list like `cn[1-4,7]` stands for."""
        if not any(c in expression for c in "[,"):
            return (expression,) if expression else ()
        return tuple(self._run(["scontrol", "show", "hostnames", expression], None).split())

    # ---- what is done

    def update_nodes(self, names: Iterable[str], **fields: str) -> None:
        """Change fields of some nodes in one step, such as state, reason, extra."""
        joined = ",".join(names)
        if joined:
            self._run(["scontrol", "update", f"nodename={joined}", *(f"{k}={v}" for k, v in fields.items())], None)

    def submit(self, options: Sequence[str], script: str) -> int:
        """Submit a batch script; returns the id of its job."""
        said = self._run(["sbatch", "--parsable", *options], script)
        job = said.strip().split(";")[0]
        if not job.isdigit():
            raise SlurmError(Trouble.GARBLED, f"sbatch said {said[:100]!r}", "sbatch")
        return int(job)

    def update_job(self, job: int, **fields: str) -> None:
        """Change fields of a job in one step, such as TimeLimit, or CPUsPerTask and MinMemoryNode of a pending one."""
        self._run(["scontrol", "update", f"JobId={job}", *(f"{k}={v}" for k, v in fields.items())], None)

    def signal(self, job: int, name: str) -> None:
        """Send a signal to the processes of a job's script."""
        self._run(["scancel", f"--signal={name.removeprefix('SIG')}", "--full", str(job)], None)

    def cancel(self, job: int) -> None:
        """End a job; one that is over or unknown is success."""
        try:
            self._run(["scancel", str(job)], None)
        except SlurmError as e:
            if e.trouble not in (Trouble.NOT_FOUND, Trouble.CONFLICT):
                raise

    # ---- reading

    def _either(self, key: str, newer: Sequence[str], older: Sequence[str]) -> list[Json]:
        """From 23.02 on one command tells it, before another."""
        try:
            return self._json(newer, key)
        except SlurmError as e:
            if e.trouble is not Trouble.UNSUPPORTED:
                raise
        return self._json(older, key)

    def _shown(self, key: str, what: str, fields: Mapping[str, str]) -> list[Json]:
        """`scontrol show`, as JSON where this version has it, else as its lines of key=value."""
        try:
            return self._json(["scontrol", "show", what, "--json"], key)
        except SlurmError as e:
            if e.trouble is not Trouble.UNSUPPORTED:
                raise
        rows: list[Json] = []
        for line in self._run(["scontrol", "-a", "-o", "show", what], None).splitlines():
            found = dict(part.split("=", 1) for part in line.split() if "=" in part)
            row = {ours: _epoch(found[theirs]) for theirs, ours in fields.items() if theirs in found}
            if "name" in row:
                rows.append(row)
        return rows

    def _json(self, argv: Sequence[str], key: str) -> list[Json]:
        return listed(self._run(argv, None), key, " ".join(argv[:2]))


Connect: TypeAlias = Callable[[Path | None], SlurmCommands]
"""The commands of the cluster that this slurm.conf describes; None = the one Slurm finds by itself."""


def connect(conf: Path | None = None) -> SlurmCommands:
    """The commands on this machine's PATH."""
    return SlurmCommands(run_command(conf))


_SINFO: Final = ("sinfo", "--json", "--all")
_RESERVATION: Final = {
    "ReservationName": "name",
    "StartTime": "start_time",
    "EndTime": "end_time",
    "Nodes": "node_list",
    "NodeCnt": "node_count",
    "CoreCnt": "core_count",
    "PartitionName": "partition",
    "Users": "users",
    "Flags": "flags",
    "TRES": "tres",
}
_PARTITION: Final = {
    "PartitionName": "name",
    "State": "state",
    "TotalNodes": "total_nodes",
    "TotalCPUs": "total_cpus",
    "Nodes": "nodes",
}


def listed(text: str, key: str, where: str) -> list[Json]:
    """The list under `key` of an answer.

    Raises:
        SlurmError: it is no JSON, has no such list, or tells an error.
    """
    try:
        answer: Any = json.loads(text)
    except ValueError as e:
        raise SlurmError(Trouble.GARBLED, f"not JSON, or cut short: {e}", where) from None
    if not isinstance(answer, Mapping):
        raise SlurmError(Trouble.GARBLED, "an answer that is no table", where)
    errors = [_said(e) for e in answer.get("errors") or () if _said(e)]
    found, said = answer.get(key), "; ".join(errors)
    if not isinstance(found, list):
        raise SlurmError(trouble_of(said) if said else Trouble.GARBLED, said or f"an answer without {key!r}", where)
    if not found and trouble_of(said) in (
        Trouble.UNREACHABLE,
        Trouble.TOO_MUCH,
        Trouble.DENIED,
    ):  # "nothing found" is an answer
        raise SlurmError(trouble_of(said), said, where)
    return [row for row in found if isinstance(row, Mapping)]


def _said(error: object) -> str:
    if isinstance(error, Mapping):
        return str(error.get("description") or error.get("error") or "")
    return str(error)


def _epoch(value: str) -> str:
    """A time as `scontrol` prints it, in epoch seconds; anything else as it is."""
    try:
        return str(datetime.strptime(value, _CLOCK).astimezone().timestamp()) if "T" in value else value
    except ValueError:
        return value


def _wall(text: str) -> float | None:
    """As sacctmgr prints it, wall clock of this machine; None for "Unknown": it has not come."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except ValueError:
        return None


def _local(at: datetime) -> str:
    """As sacct reads it: wall clock of this machine, whole seconds."""
    return at.astimezone().strftime(_CLOCK)
