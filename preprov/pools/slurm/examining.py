"""What a person is told before Slurm's nodes are touched: does it answer, knows it the nodes, and calls it preprov."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from preprov.contracts import Examined, Finding, PoolProvider
from preprov.model.errors import ConfigError, PoolError
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.pools.slurm.config import PROGRAMS
from preprov.pools.slurm.options import SlurmGroup, Vendor, slurm_groups
from preprov.pools.slurm.vendors import gives_back, unfit
from preprov.slurm.commands import Connect
from preprov.slurm.errors import SlurmError
from preprov.slurm.records import SlurmNode
from preprov.slurm.shapes import number

_NEEDED: Final = ("cloud_reg_addrs", "idle_on_node_suspend")
_WRITE: Final = (
    "`preprov slurm config --write FOLDER` makes it; then Include it in slurm.conf, and `scontrol reconfigure`"
)


def examine(pool: Pool, connect: Connect, vendor: Vendor) -> tuple[Finding, ...]:
    """Findings, never an exception; those of the vendor, as far as it examines anything, come last."""
    out: list[Finding] = []
    for group in slurm_groups(pool):
        slurm = connect(group.conf)
        try:
            settings, nodes = slurm.settings(), slurm.nodes()
        except SlurmError as e:
            hint = "is slurmctld up (`scontrol ping`), and are Slurm's client commands here? `conf` names a slurm.conf"
            out.append(Finding(f"{group.where}: Slurm", "bad", e.said, hint))
            continue
        out += _nodes(group, {n.name: n for n in nodes})
        out += _programs(group, settings)
        out += _times(group, settings)
        machines: PoolProvider = vendor(group.vendor)
        out += _machines(group, machines)
        out += machines.examine(group.theirs) if isinstance(machines, Examined) else ()
    return tuple(out)


def _nodes(group: SlurmGroup, known: Mapping[str, SlurmNode]) -> Iterator[Finding]:
    what = f"{group.where}: nodes"
    missing = [n for n in group.names if n not in known]
    fixed = [n for n in group.names if n in known and "CLOUD" not in known[n].flags]
    if missing:
        yield Finding(what, "bad", f"Slurm knows no {_some(missing)}", _WRITE)
    if fixed:
        yield Finding(what, "bad", f"{_some(fixed)}: no cloud nodes, Slurm powers them neither up nor down", _WRITE)
    if not missing and not fixed:
        up = sum(not known[n].is_gone for n in group.names)
        yield Finding(what, "ok", f"{len(group.names)} cloud nodes, {up} of them not powered down")


def _programs(group: SlurmGroup, settings: Mapping[str, str]) -> Iterator[Finding]:
    what = f"{group.where}: programs"
    wrong = [w for name, key in PROGRAMS.items() if (w := _wrong(key, settings.get(key, ""), f"slurm {name}"))]
    lacking = [p for p in _NEEDED if p not in settings.get("SlurmctldParameters", "").split(",")]
    for problem in wrong:
        yield Finding(what, "bad", problem, _WRITE)
    if lacking:
        found = f"SlurmctldParameters lacks {', '.join(lacking)}"
        yield Finding(what, "bad", found, "it has one line of its own in slurm.conf; then restart slurmctld")
    if not wrong and not lacking:
        yield Finding(what, "ok", "Slurm calls preprov to have nodes and to be rid of them")


def _wrong(key: str, file: str, verb: str) -> str:
    """What is wrong with a program; "" if nothing is, or if it lies on another host."""
    if not file or file == "(null)":
        return f"{key} is not set"
    path = Path(file)
    if not path.parent.exists():
        return ""
    if not os.access(path, os.X_OK):
        return f"{key}: {file} is not there, or cannot be run"
    try:
        ours = verb in path.read_text(errors="replace")
    except OSError:
        return ""
    return "" if ours else f"{key}: {file} does not call `preprov {verb}`"


def _times(group: SlurmGroup, settings: Mapping[str, str]) -> Iterator[Finding]:
    what = f"{group.where}: times"
    suspend, resume = (_seconds(settings.get(k, "")) for k in ("SuspendTime", "ResumeTimeout"))
    slow = max((lead.p95_s for lead in group.group.lead.values()), default=0.0)
    if suspend is None:
        hint = "it is the lease: set SuspendTime, so that a dead preprov costs no more than that"
        yield Finding(what, "warn", "Slurm powers no node down by itself", hint)
    if resume is not None and resume <= slow:
        found = f"ResumeTimeout is {resume:g} s, one node in twenty takes longer than {slow:g} s"
        yield Finding(what, "warn", found, "raise ResumeTimeout, or correct the group's lead")
    if suspend is not None and (resume is None or resume > slow):
        yield Finding(what, "ok", f"a node that nobody keeps is powered down after {suspend:g} s")


def _machines(group: SlurmGroup, vendor: PoolProvider) -> Iterator[Finding]:
    what = f"{group.where}: machines"
    try:
        why, same = unfit(group, vendor), gives_back(group, vendor)
    except (PoolError, ConfigError) as e:
        yield Finding(what, "bad", e.what, e.hint)
        return
    kept = sorted(({group.suspend_to} | group.group.standby_states) - {Standby.COLD, Standby.RUNNING})
    if why:
        yield Finding(what, "bad", why, "name the provider that launches them, such as aws")
    elif kept and not same:
        found = (
            f"of what is {' or '.join(kept)}, {group.vendor} itself chooses what it wakes: machines are ended instead"
        )
        hint = "on AWS name a launch_template in place of the asg, on Azure a scale set without a standby pool"
        yield Finding(what, "warn", found, hint)


def _seconds(value: str) -> float | None:
    found = number(value.split()[0]) if value else None
    return found if found is not None and found > 0 else None


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
