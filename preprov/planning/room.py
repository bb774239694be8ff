"""What is left of a limit across pools."""

import math

from preprov.planning.inputs import SharedRoom


def nodes_left(room: SharedRoom, nodes: int, cpu: float, per_node: float) -> float:
    """How many more nodes of so many cores the limit lets all pools have, `nodes` and `cpu` being this pool's own."""
    limit, others, left = room.limit, room.outside(), math.inf
    if limit.max_nodes is not None:
        left = min(left, limit.max_nodes - others.nodes - nodes)
    if limit.max_cpu is not None:
        left = min(left, math.floor((limit.max_cpu - others.cpu - cpu) / max(per_node, 1e-9) + 1e-9))
    return left
