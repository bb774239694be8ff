"""What Slurm calls: ResumeProgram, SuspendProgram and ResumeFailProgram, backed by the provider that has the machines.

Slurm may call a program twice for a node, call one while another still runs, and forget that it called: so each looks
at what exists before it does anything, and a launch has a token that is kept until its machine has ended.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from preprov.contracts import Scheduler
from preprov.model.errors import ConfigError, PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.pools.slurm import view
from preprov.pools.slurm.boots import Boots
from preprov.pools.slurm.machines import ASLEEP, Machines
from preprov.pools.slurm.marks import Failed, Marks
from preprov.pools.slurm.options import SlurmGroup, Vendor, slurm_groups
from preprov.pools.slurm.touching import give_back
from preprov.pools.slurm.view import Place
from preprov.slurm.commands import Connect, SlurmCommands, connect
from preprov.slurm.errors import SlurmError
from preprov.slurm.hostlist import expand
from preprov.slurm.records import SlurmNode
from preprov.slurm.shapes import number

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 8
_FIRST_LOOK_S, _LAST_LOOK_S = 0.5, 5.0
_SPARE_S: Final = 5.0
"""A program ends so long before Slurm would end it."""
_FAILURES: Final = 3


@dataclass
class Done:
    """What a program did.

    Attributes:
        done: node -> what, in words. failed: node -> why not.
    """

    done: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Awaited:
    """Nodes of a group whose machines are on their way.

    Attributes:
        deadline: of the monotonic clock. joined: node -> its machine, once it was told to join.
    """

    group: SlurmGroup
    slurm: SlurmCommands
    left: set[str]
    deadline: float
    joined: dict[str, str] = field(default_factory=dict)


class PowerPrograms:
    """The three programs.

    Args:
        pools: as configured; their groups of provider "slurm" count.
        vendor: gives the provider that makes the machines.
        schedulers: gives what runs a command on a machine of that vendor; None = nothing does.
        boots: remembers which machine was made for which boot of a node.
        connect: gives the commands of a cluster.
    """

    def __init__(
        self,
        pools: Iterable[Pool],
        vendor: Vendor,
        schedulers: Callable[[str], Scheduler | None],
        boots: Boots,
        *,
        connect: Connect = connect,
    ) -> None:
        self._groups = [g for p in pools for g in slurm_groups(p)]
        self._machines = Machines(vendor, schedulers, boots)
        self._boots = boots
        self._connect = connect

    # ---- resume

    def resume(self, hosts: str, jobs: Mapping[str, Sequence[int]] | None = None) -> Done:
        """Have a machine behind each of these nodes, and have it join once it is ready.

        Args:
            hosts: host list as Slurm gives it. jobs: node -> the jobs that wait for it, for the log.
        """
        out = Done()
        began = time.monotonic()
        awaited: list[_Awaited] = []
        for group, names in self._by_group(hosts, out):
            slurm = self._connect(group.conf)
            log.info("resume", group=group.where, nodes=names, jobs={n: list((jobs or {}).get(n, ())) for n in names})
            why, found = self._machines.unfit(group), list[Place]()
            try:
                found += () if why else self._places(group, slurm, names).values()
            except PoolError as e:
                why = f"{e.kind}: {e.what}"
            if why:
                for name in names:
                    self._refuse(group, slurm, name, why, out)
                continue
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                refusals = list(pool.map(partial(self._machines.provide, group), found))
            for place, why in zip(found, refusals, strict=True):
                if why:
                    self._refuse(group, slurm, place.name, why, out)
            left = {p.name for p, why in zip(found, refusals, strict=True) if not why}
            self._give_up(group, slurm, left, out)
            awaited.append(_Awaited(group, slurm, left, began + self._resume_s(slurm) - _SPARE_S))
        self._bring_in(awaited, out)
        for a in awaited:
            give_back(a.group, a.slurm, a.slurm.nodes())
        return out

    def _give_up(self, group: SlurmGroup, slurm: SlurmCommands, left: set[str], out: Done) -> None:
        """Give up what Slurm suspended before there was a machine: its SuspendProgram has found none to end."""
        try:
            unwanted = [n.name for n in slurm.nodes() if n.name in left and _is_unwanted(n)]
        except SlurmError:
            return
        for name in unwanted:
            with self._boots.of(group.where, name) as boot:
                to = group.suspend_to
                try:
                    to = self._machines.rests_as(group)
                    machine = self._machines.by_node(group).get(name)
                    if machine is not None and machine.phase not in ASLEEP:
                        self._machines.end(group, machine, to)
                except PoolError as e:  # an observation shows that it is there without Slurm
                    log.error("not given up", node=name, why=str(e))
                if to is Standby.COLD:
                    boot.ended()
            left.discard(name)
            out.failed[name] = "Slurm does not want it any more"

    def _bring_in(self, awaited: Sequence[_Awaited], out: Done) -> None:
        """Wait for the machines, have each join as it is ready, and wait until Slurm hears of it.

        Until then no boot has come to anything, however well its machine looks.
        """
        wait = _FIRST_LOOK_S
        while any(a.left for a in awaited):
            for a in awaited:
                machines = self._seen(a.group) if a.left else {}
                heard = self._heard_of(a)
                for name in sorted(a.left):
                    if name in heard:
                        with self._boots.of(a.group.where, name) as boot:
                            boot.came()
                        out.done[name] = f"{a.joined[name]} joined"
                        a.left.discard(name)
                    elif self._settle(a, name, machines.get(name), out):
                        a.left.discard(name)
                if time.monotonic() > a.deadline:  # its image may still bring it in; if not, Slurm calls `fail`
                    out.failed.update(dict.fromkeys(a.left, "did not come before the ResumeTimeout"))
                    a.left.clear()
            if any(a.left for a in awaited):
                time.sleep(wait)
                wait = min(wait * 1.1, _LAST_LOOK_S)

    def _seen(self, group: SlurmGroup) -> Mapping[str, Node]:
        """Node -> its machine; none while the vendor does not say: the next look shows them."""
        try:
            return self._machines.by_node(group)
        except PoolError as e:
            log.warning("machines are not shown", group=group.where, why=str(e))
            return {}

    def _heard_of(self, a: _Awaited) -> frozenset[str]:
        """Those that joined and that Slurm holds for up."""
        if not a.joined:
            return frozenset()
        try:
            return frozenset(n.name for n in a.slurm.nodes() if n.name in a.joined and not (n.is_coming or n.is_gone))
        except SlurmError:
            return frozenset()

    def _settle(self, a: _Awaited, name: str, machine: Node | None, out: Done) -> bool:
        """One step for one node; True if nothing more is to be waited for."""
        if machine is None or machine.phase in ASLEEP:
            if not self._is_wanted(a, name):
                out.failed[name] = "it was suspended meanwhile"
                return True
            return False  # what was just launched or woken may not be shown yet
        if machine.phase is Phase.FAILED:
            return self._turn_away(a, name, machine, machine.reason or "its check failed", out)
        if not a.group.join:
            a.joined[name] = machine.node_id  # its image has it join
            return False
        if name in a.joined:
            if machine.running == ():
                return self._turn_away(a, name, machine, "what makes it join has ended: see the log of its task", out)
            return False
        if machine.phase is Phase.READY:
            with self._boots.of(a.group.where, name) as boot:
                try:
                    self._machines.joiner.join(a.group, name, machine, boot.serial)
                except PoolError as e:
                    log.warning("not joined yet", node=name, why=str(e))
                    return False
            a.joined[name] = machine.node_id
        return False

    def _turn_away(self, a: _Awaited, name: str, machine: Node, why: str, out: Done) -> bool:
        """It will not do; True."""
        self._refuse(a.group, a.slurm, name, why, out)
        try:
            self._machines.end(a.group, machine)
        except PoolError as e:  # an observation shows that it is there without Slurm
            log.error("not ended, and still paid for", node=name, machine=machine.node_id, why=str(e))
        return True

    def _is_wanted(self, a: _Awaited, name: str) -> bool:
        """False if Slurm says that it is not."""
        try:
            return not any(_is_unwanted(n) for n in a.slurm.nodes() if n.name == name)
        except SlurmError:
            return True

    def _refuse(self, group: SlurmGroup, slurm: SlurmCommands, name: str, why: str, out: Done) -> None:
        """Tell Slurm at once, so that the job goes elsewhere instead of waiting for the ResumeTimeout."""
        out.failed[name] = why
        log.error("no machine", node=name, why=why)
        with self._boots.of(group.where, name) as boot:
            boot.refused = f"{view.REFUSED}: {why}"[:200]
        try:
            slurm.update_nodes([name], state="down", reason=boot.refused)
        except SlurmError as e:
            log.error("Slurm was not told", node=name, said=e.said)

    # ---- suspend

    def suspend(self, hosts: str) -> Done:
        """End, stop or hibernate the machines behind these nodes; one that Slurm gives to a job is left alone."""
        out = Done()
        for group, names in self._by_group(hosts, out):
            slurm = self._connect(group.conf)
            found = self._places(group, slurm, names)
            for name in names:
                self._suspend(group, slurm, found[name], out)
            give_back(group, slurm, slurm.nodes())
        return out

    def _suspend(self, group: SlurmGroup, slurm: SlurmCommands, place: Place, out: Done) -> None:
        if place.jobs:
            out.failed[place.name] = f"job {', '.join(str(j.job_id) for j in place.jobs)} is there: left alone"
            return
        s = place.slurm
        if s is not None and (s.is_coming or not (s.is_gone or s.is_going)):
            out.failed[place.name] = "Slurm does not hold it for powered down, or wants it again: left alone"
            return
        try:
            to = self._machines.rests_as(group, place.marks.to)
            with self._boots.of(group.where, place.name) as boot:
                self._unmark(slurm, place, to)
                ended = [self._machines.end(group, m) for m in place.older]
                if place.machine is not None:
                    ended.append(self._machines.end(group, place.machine, to))
                if to is Standby.COLD or place.machine is None:
                    boot.ended()
        except (PoolError, ConfigError, SlurmError) as e:
            out.failed[place.name] = str(e)
            log.error("not suspended", node=place.name, why=str(e))
            return
        out.done[place.name] = "; ".join(ended) or "there was no machine"

    def _unmark(self, slurm: SlurmCommands, place: Place, to: Standby, failed: Failed | None = None) -> None:
        """The order it warmed by is over, or came to nothing; a token whose machine ends is past.

        Before the machine ends, for then the name is free, and whoever powers it up anew leaves marks of his own.
        """
        marks = next((Marks.read(n.extra) for n in slurm.nodes() if n.name == place.name), place.marks)
        if marks.token != place.marks.token:
            return
        after = replace(marks, asked_at=None, to=None, failed=failed, going_at=time.time())
        if to is Standby.COLD and marks.token:
            after = replace(after, token="", tags={}, past=(marks.token, *marks.past)[:8])
        if after != marks:
            slurm.update_nodes([place.name], extra=after.write())

    # ---- resume that failed

    def fail(self, hosts: str) -> Done:
        """Clear up after nodes that did not come in time, and let Slurm try them again, but not for ever."""
        out = Done()
        for group, names in self._by_group(hosts, out):
            slurm = self._connect(group.conf)
            found = self._places(group, slurm, names)
            for name in names:
                self._clear(group, slurm, found[name], out)
            give_back(group, slurm, slurm.nodes())
        return out

    def _clear(self, group: SlurmGroup, slurm: SlurmCommands, place: Place, out: Done) -> None:
        """What its vendor refused, Slurm was told at once: no boot that failed, and it stays refused for a while."""
        if place.slurm is not None and not place.slurm.is_down:
            out.failed[place.name] = "Slurm does not hold it for failed, or has tried it again: left alone"
            return
        try:
            with self._boots.of(group.where, place.name) as boot:
                refused, boot.refused = boot.refused, ""
                self._unmark(slurm, place, Standby.COLD, None if refused else self._failure(slurm, place))
                left = [m for m in (place.machine, *place.older) if m is not None]
                for m in left:
                    self._machines.end(group, m)
                if not refused:
                    boot.failed()
                elif left:
                    boot.ended()
                failures = boot.failures
            if refused:
                slurm.update_nodes([place.name], state="down", reason=refused)
                out.done[place.name] = f"refused by {group.vendor}: may be tried again after {group.retry_s:g} s"
                return
            if failures >= _FAILURES:
                why = (
                    f"{view.OURS}{failures} times in a row it did not come; `scontrol update state=resume` tries again"
                )
                slurm.update_nodes([place.name], state="down", reason=why)
                out.failed[place.name] = f"left DOWN after {failures} failures in a row"
                return
            slurm.update_nodes([place.name], state="resume")
        except (PoolError, SlurmError) as e:
            out.failed[place.name] = str(e)
            log.error("not cleared", node=place.name, why=str(e))
            return
        out.done[place.name] = f"cleared; failure {failures} in a row"

    def _failure(self, slurm: SlurmCommands, place: Place) -> Failed:
        """For whoever keeps lead times: this program opens no store."""
        now, marks = time.time(), place.marks
        began = marks.asked_at if marks.asked_at is not None else now - self._resume_s(slurm)
        came_from = place.machine.came_from if place.machine is not None else Standby.COLD
        return Failed(began, now, came_from, marks.token)

    # ---- which

    def _by_group(self, hosts: str, out: Done) -> list[tuple[SlurmGroup, list[str]]]:
        try:
            names = list(dict.fromkeys(expand(hosts)))
        except SlurmError as e:
            raise ConfigError(e.said, hint="a host list, such as cn[1-4]") from None
        found = [(g, [n for n in names if n in set(g.names)]) for g in self._groups]
        known = {n for _, mine in found for n in mine}
        for name in names:
            if name not in known:
                out.failed[name] = "no group of provider slurm names it in its `nodes`"
        return [(g, mine) for g, mine in found if mine]

    def _places(self, group: SlurmGroup, slurm: SlurmCommands, names: Sequence[str]) -> dict[str, Place]:
        """As they are; without Slurm's part where it does not answer, for a machine must not depend on that."""
        try:
            nodes, jobs = slurm.nodes(), slurm.jobs()
        except SlurmError as e:
            log.warning("Slurm does not answer", said=e.said)
            nodes, jobs = (), ()
        seen = self._machines.observe(group)
        return {n: p for n, p in view.places(group, nodes, jobs, seen.nodes).items() if n in set(names)}

    def _resume_s(self, slurm: SlurmCommands) -> float:
        """Slurm's ResumeTimeout, seconds."""
        try:
            said = slurm.settings().get("ResumeTimeout", "")
        except SlurmError:
            said = ""
        return (number(said.split()[0]) if said else None) or 60.0


def _is_unwanted(node: SlurmNode) -> bool:
    """True if Slurm has powered it down, or does."""
    return (node.is_gone or node.is_going) and not node.is_coming
