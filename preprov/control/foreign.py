"""What others run on nodes, where their providers cannot say how much of a node it holds.

Slurm and Kubernetes know what they gave to whom, and an agent runs nothing but what it was given. Of any other provider
a node is taken to be full while something runs there that is not in the ledger.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from preprov.control.context import Context
from preprov.model.foreign import Foreign
from preprov.model.nodes import Node
from preprov.model.pools import Pool

SERVES: Final = "preprov:serve:"
"""Begins the run ids of workers that preprov starts for the places it serves; no reservation is theirs."""


def with_foreign(ctx: Context, pool: Pool, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes, each saying what others hold of it. The ledger is asked only if a provider left that open."""
    nodes = tuple(nodes)
    if all(n.foreign is not None for n in nodes):
        return nodes
    known = {r.claimant for r in ctx.ports.ledger.reservations(pool.name)} if any(_is_open(n) for n in nodes) else set()
    return tuple(replace(n, foreign=_unknown(n, known)) if n.foreign is None else n for n in nodes)


def _is_open(node: Node) -> bool:
    return node.foreign is None and bool(node.running)


def _unknown(node: Node, known: set[str]) -> tuple[Foreign, ...]:
    strange = any(c not in known and not c.startswith(SERVES) for c in node.running or ())
    return (Foreign(node.offering.allocatable),) if strange else ()
