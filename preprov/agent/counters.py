"""What a task has used since it began, as the kernel counts it; what nobody counts, or may see, is None."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from preprov.agent import limits, proc

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of one task.

    Attributes:
        cpu_s: seconds of a core. io_bytes: of disks. faults: major ones. reads, writes: calls. disk_ops: of the disks.
        network_bytes: of the namespaces `networks`, which are its own.
    """

    cpu_s: float | None = 0.0
    io_bytes: int | None = 0
    faults: int | None = 0
    reads: int | None = 0
    writes: int | None = 0
    disk_ops: int | None = 0
    network_bytes: int | None = None
    networks: tuple[int, ...] = ()

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> "Counters":
        """As `asdict` gave them; from a record of fewer, those it lacks are not known."""
        told: dict[str, Any] = {f.name: known.get(f.name) for f in fields(cls)}
        told["networks"] = tuple(known.get("networks") or ())
        return cls(**told)

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)

    def rate(self, name: str, before: "Counters", seconds: float) -> float | None:
        """How much a second since then; 0 where a counter went back, for a child that ended took its share along."""
        now, then = getattr(self, name), getattr(before, name)
        if now is None or then is None or (name == "network_bytes" and self.networks != before.networks):
            return None
        return max(float(now - then), 0.0) / seconds


def read(stats: Sequence[proc.Stat], groups: list[Path], networks: Mapping[int, int]) -> Counters:
    """Of a task that runs.

    Args:
        stats: its processes, at least one. groups: its cgroups.
        networks: number -> a process in it, of the network namespaces that are its own; empty = it has none.
    """
    cpu_s, faults = limits.cpu_seconds(groups), limits.page_faults(groups)
    io = [proc.io(s.pid) for s in stats]
    return Counters(
        cpu_s=sum(s.cpu_s for s in stats) if cpu_s is None else cpu_s,
        io_bytes=total(None if i is None else i.disk_bytes for i in io),
        faults=sum(s.faults for s in stats) if faults is None else faults,
        reads=total(None if i is None else i.reads for i in io),
        writes=total(None if i is None else i.writes for i in io),
        disk_ops=limits.disk_operations(groups),
        network_bytes=total(proc.network_bytes(p) for p in networks.values()) if networks else None,
        networks=tuple(sorted(networks)),
    )


def own_networks(tasks: Mapping[str, Sequence[int]]) -> dict[str, dict[int, int]]:
    """Claimant -> the network namespaces that hold all of its processes and nobody else's that is known here.

    One that the agent is in, or two tasks are, counts what others send too: such a task is left out.

    Args:
        tasks: claimant -> its processes.

    Returns:
        Claimant -> number of a namespace -> a process in it.
    """
    inside = {c: {proc.network_of(p): p for p in pids} for c, pids in tasks.items()}
    crowd = Counter(n for found in inside.values() for n in found)
    ours = {None, proc.network_of("self")}
    return {
        c: {n: p for n, p in found.items() if n is not None}
        for c, found in inside.items()
        if found and not ours & set(found) and all(crowd[n] == 1 for n in found)
    }


def total(values: Iterable[N | None]) -> N | int | None:
    """Sum; None if one of them is not known."""
    out: N | int = 0
    for v in values:
        if v is None:
            return None
        out += v
    return out
