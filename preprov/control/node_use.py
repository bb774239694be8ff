"""What nodes use as a whole just now, where somebody samples machines: a Prometheus with the preset `node`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final

from preprov.contracts import SampleStore
from preprov.model.agent import Usage
from preprov.model.nodes import Node

FRESH_S: Final = 900.0
"""What a machine used longer ago says nothing of now."""
_PREFIX: Final = "node/"
_AMOUNTS: Final = tuple(f.name for f in fields(Usage) if f.name != "at")


def in_use(samples: SampleStore, nodes: Sequence[Node], now: float) -> Mapping[str, Usage]:
    """Node id -> the last sample of its machine in the last `FRESH_S`; nodes without one are left out.

    Args:
        now: epoch seconds.
    """
    names = {n.node_id: _names(n) for n in nodes}
    told = samples.latest([_PREFIX + name for every in names.values() for name in every], since=now - FRESH_S)
    out: dict[str, Usage] = {}
    for node_id, every in names.items():
        found = [told[_PREFIX + name] for name in every if _PREFIX + name in told]
        if found:
            out[node_id] = max(found, key=lambda u: u.at)
    return out


def amounts(usage: Usage) -> dict[str, float]:
    """What was observed, by resource."""
    found = {name: getattr(usage, name) for name in _AMOUNTS}
    return {name: float(value) for name, value in found.items() if value is not None}


def _names(node: Node) -> tuple[str, ...]:
    """What an exporter on it may be reached by: id or address, its machine's, host names short too."""
    names = [name for one in (node, node.machine) if one is not None for name in (one.node_id, _host(one.address))]
    short = [n.partition(".")[0] for n in names if n and not n[0].isdigit()]
    return tuple(dict.fromkeys(n for n in (*names, *short) if n))


def _host(address: str) -> str:
    """Of a node's address; "" if that is no host's."""
    kind, colon, rest = address.partition(":")
    return "" if kind == "unix" else rest if kind == "slurm" and colon else address
