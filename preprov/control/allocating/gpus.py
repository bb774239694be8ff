"""GPUs: devices that a task has to itself; which of them it is, its node's agent decides when it starts."""

import math
from collections.abc import Iterator, Mapping

from preprov.contracts import Allocatable, Holding, Unit
from preprov.control.allocating.machines import Machines, is_on_devices, is_on_room
from preprov.control.context import Context
from preprov.model.errors import RefusedError
from preprov.model.nodes import Node
from preprov.model.pools import Pool
from preprov.model.reservations import Reservation


class Gpus(Machines):
    """Devices of a pool's nodes: those that agents see, else as many as the offerings declare."""

    kind = "gpu"

    def observe(self, pool: Pool) -> tuple[Unit, ...]:
        """As the contract says."""
        return tuple(u for n, bound in self._nodes(pool) for u in self._of(pool, n, bound))

    def _of(self, pool: Pool, node: Node, bound: list[Reservation]) -> Iterator[Unit]:
        takers = [r.claimant for r in bound for _ in range(math.ceil(r.most.gpu))]
        running = {d.claimant for d in node.devices or () if d.claimant}
        waiting = iter([c for c in takers if c not in running])
        for device in node.devices or ():
            holder = device.claimant or (next(waiting, "") if device.state == "ok" else "")
            amount = {"gpu": 1.0} | ({"gpu_memory": device.memory} if device.memory is not None else {})
            detail = f"{device.name}: {device.state}"
            yield self._unit(pool, node, device.uuid, holder, amount, detail, begun=bool(device.claimant))
        if node.devices is None:
            for i in range(int(node.offering.capacity.gpu)):
                name = f"{node.node_id}/gpu{i}"
                yield self._unit(pool, node, name, next(waiting, ""), {"gpu": 1.0}, "declared, not seen", begun=False)

    def _unit(
        self, pool: Pool, node: Node, name: str, holder: str, amount: dict[str, float], detail: str, *, begun: bool
    ) -> Unit:
        held = Holding.RESERVED if holder else Holding.FREE
        holders = (holder,) if holder else ()
        return Unit(
            self.kind, name, pool.name, node.node_id, Holding.ALLOCATED if begun else held, amount, holders, detail
        )

    def reserve(self, pool: Pool, claim: Reservation) -> Reservation:
        """As the contract says; whole devices only."""
        if claim.most.gpu < 1 or claim.most.gpu % 1:
            raise RefusedError(f"{claim.most.gpu:g} GPUs cannot be had: a device is given whole", where=pool.name)
        return super().reserve(pool, claim)

    def resize(self, pool: Pool, claim: Reservation, node: Node, amount: Mapping[str, float]) -> Reservation:
        """Refused: a process keeps the devices that it began with."""
        raise RefusedError("devices are not exchanged", where=claim.reservation_id, hint="release it, and book anew")


def types(ctx: Context) -> tuple[Allocatable, ...]:
    """What this module brings."""
    return (Gpus(ctx),)


def type_for(ctx: Context, pool: Pool, claim: Reservation, node: Node | None) -> Allocatable | None:
    """This one if a claim is on it."""
    return Gpus(ctx) if is_on_room(claim) and is_on_devices(claim) else None
