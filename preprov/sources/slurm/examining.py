"""What a person is told before a cluster is read: does it answer, as whom, and how much of it can be seen."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from preprov.contracts import Finding
from preprov.model.time import epoch, from_epoch
from preprov.slurm.arrays import elements, is_cut
from preprov.slurm.errors import SlurmError, Trouble
from preprov.slurm.records import Partition, SlurmJob
from preprov.sources.releases import release_finding
from preprov.sources.skew import HeardClock, clock_finding
from preprov.sources.slurm.crontab import CronLine, cron_lines
from preprov.sources.slurm.reading import SlurmReader

T = TypeVar("T")

UNSUPPORTED: Final = "set `api` to a version that slurmrestd has (`slurmrestd -d list`); Slurm 22.05 or newer is needed"
_LEAST: Final = "22.05"
_HINTS: Final = {
    Trouble.MISSING: "install Slurm's client commands on this machine, or name slurmrestd by `url`",
    Trouble.UNREACHABLE: "are slurmctld, slurmdbd and munge up? `scontrol ping`; `conf` names another slurm.conf",
    Trouble.TOO_MUCH: "are slurmctld and slurmdbd overloaded? `sdiag`",
    Trouble.DENIED: "run as SlurmUser or a Slurm operator, or with the token of one: PrivateData hides jobs of others",
    Trouble.UNSUPPORTED: UNSUPPORTED,
    Trouble.GARBLED: "is that slurmrestd, and of version 22.05 or newer?",
}
_RECENT: Final = timedelta(hours=1)
_SETTLED_S: Final = 60.0
_SEES_ALL: Final = (
    "run as SlurmUser, or `sacctmgr modify user NAME set adminlevel=Operator`, else work of others is not seen"
)
_READ: Final = ("jobs", "usage", "partitions", "reservations")
"""What of PrivateData hides anything that is read here."""


def examine(
    reader: SlurmReader, crontabs: Sequence[Path], heard: HeardClock, *, usage: bool = True
) -> tuple[Finding, ...]:
    """Findings, never an exception.

    Args:
        usage: what running jobs use is to be read.
    """
    out: list[Finding] = []
    version = _tried(out, "version", reader.version)
    if version is None:
        return tuple(out)
    out.append(release_finding("Slurm", version, _LEAST))
    theirs = _tried(out, "clock", reader.clock)
    if theirs is not None:
        heard.hear_at(theirs)
        out.append(clock_finding(heard.ahead_s))
    counted = _tried(out, "jobs of others", reader.counted)  # before the queue, which has all that was there then
    jobs = _tried(out, "queue", reader.jobs)
    if jobs is not None:
        users = len({j.user for j in jobs})
        pending = sum(j.state == "PENDING" for j in jobs)
        out.append(Finding("queue", "ok", f"{len(jobs)} jobs of {users} users, {pending} of them pending"))
    now = datetime.now(UTC) if theirs is None else from_epoch(theirs)
    hidden = _tried(out, "jobs of others", reader.hidden)
    if hidden is not None:
        out += _hidden(hidden)
    if counted is not None and jobs is not None:
        out += _uncounted(counted, jobs)
    out += _cut(jobs or ())
    if usage and jobs is not None:
        out.append(_usage(reader, jobs, epoch(now)))
    ended = _tried(out, "accounting", lambda: reader.ended(now - _RECENT, now))
    if ended is not None:
        out.append(Finding("accounting", "ok", f"{len(ended)} jobs ended in the last hour"))
    partitions = _tried(out, "partitions", reader.partitions)
    if partitions is not None:
        out.append(_partitions(partitions))
    held = _tried(out, "reservations", reader.reservations)
    if held:
        names = ", ".join(r.name for r in held[:5])
        out.append(Finding("reservations", "ok", f"{names}: nodes that Slurm keeps for them are no room for others"))
    out.extend(_crontab(file) for file in crontabs)
    return tuple(out)


def _hidden(kinds: Sequence[str]) -> Iterator[Finding]:
    """A queue with one's own jobs only looks like any other."""
    found = [k for k in kinds if k in _READ]
    if found:
        yield Finding("jobs of others", "warn", f"PrivateData={','.join(found)}: this user sees but its own", _SEES_ALL)


def _uncounted(counted: int, jobs: Sequence[SlurmJob]) -> Iterator[Finding]:
    """Of those that were counted some may have ended since, but these are shown for a while."""
    unsplit = [j for j in jobs if j.array_tasks and j.array_task is None]
    shown = len(jobs) - len(unsplit) + sum(len(elements(j.array_tasks)) for j in unsplit)
    if counted > shown and not any(is_cut(j.array_tasks) for j in unsplit):
        found = f"slurmctld counts {counted} jobs that wait or run, and shows this user {shown}"
        yield Finding("jobs of others", "warn", f"{found}: PrivateData hides others", _SEES_ALL)


def _cut(jobs: Sequence[SlurmJob]) -> Iterator[Finding]:
    cut = sum(is_cut(j.array_tasks) for j in jobs)
    if cut:
        hint = "start slurmrestd with SLURM_BITSTR_LEN=0 in its environment: it cuts these lists after 64 characters"
        yield Finding("arrays", "warn", f"elements are missing of {cut} arrays that wait", hint)


def _usage(reader: SlurmReader, jobs: Sequence[SlurmJob], now: float) -> Finding:
    """Tried on jobs that have run for a while: a job that begins has no step yet."""
    what = "usage"
    if not reader.looks:
        return Finding(what, "ok", "slurmrestd does not tell what running jobs use: known once they ended")
    running = [j.job_id for j in jobs if j.runs and j.started_at is not None and now - j.started_at > _SETTLED_S]
    if not running:
        return Finding(what, "ok", "no job has run long enough to try `sstat` on")
    hint = "may this user run `sstat` on jobs of others, and is JobAcctGatherType set? Else `usage = false`"
    try:
        told = len({s.job_id for s in reader.usage(running[: reader.looks])})
    except SlurmError as e:
        return Finding(what, "warn", f"{e.where or 'sstat'}: {e.said}", hint)
    asked = min(len(running), reader.looks)
    said = f"`sstat` tells what {told} of {asked} running jobs use"
    return Finding(what, "ok", said) if told else Finding(what, "warn", said, hint)


def _partitions(found: Sequence[Partition]) -> Finding:
    stopped = [p.name for p in found if not p.starts_jobs]
    told = ", ".join(f"{p.name} ({p.total_nodes} nodes, {p.total_cpus} cores)" for p in found) or "none can be seen"
    if not stopped:
        return Finding("partitions", "ok", told)
    hint = "`scontrol update partitionname=… state=up`, if that is not meant: jobs there are not expected to start"
    return Finding("partitions", "warn", f"{told}; nothing starts in {', '.join(stopped)}", hint)


def _tried(out: list[Finding], what: str, ask: Callable[[], T]) -> T | None:
    """The answer; None, and a finding, if there is none."""
    try:
        return ask()
    except SlurmError as e:
        hint = _HINTS.get(e.trouble, "`slurmctld` and `slurmdbd` have logs that say more")
        out.append(Finding(what, "bad", f"{e.where or 'slurm'}: {e.said}", hint))
        return None


def _crontab(file: Path) -> Finding:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        return Finding(f"crontab {file}", "bad", f"cannot be read: {e.strerror}", "`crontab` names files to be read")
    found = list(cron_lines(text, user="root", zone="UTC", system=False))
    good = [x for x in found if isinstance(x, CronLine)]
    bad = len(found) - len(good)
    what, told = f"crontab {file}", f"{len(good)} lines submit a job, {bad} cannot be understood"
    if bad or not good:
        return Finding(what, "warn", told, "only lines with sbatch, and those after #SCRON, count")
    return Finding(what, "ok", told)
