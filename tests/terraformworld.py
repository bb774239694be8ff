"""A root module with counts in Terraform's hands, a terraform that behaves, and a vendor whose nodes follow them."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from preprov.contracts import Capabilities, LaunchRequest
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.pools.terraform import TerraformProvider
from preprov.sim.clock import VirtualClock

FAKE = Path(__file__).parent / "unit" / "terraform" / "fake_terraform.py"
T0 = datetime(2026, 3, 2, 20, tzinfo=UTC)
BOOT = timedelta(seconds=60)
SMALL = Offering("small", Resources(cpu=2, memory=4), usd_per_hour=0.1)
LARGE = Offering("large", Resources(cpu=4, memory=8), usd_per_hour=0.2)
KEPT = {Standby.STOPPED: Phase.STOPPED, Standby.HIBERNATED: Phase.HIBERNATED}


def declared(name: str, offering: Offering, standby: Standby) -> dict[str, Any]:
    return {
        "name": name,
        "provider": "local",
        "states": ["running", str(standby)],
        "max_nodes": 8,
        "standby": str(standby),
        "offerings": [{"type": offering.instance_type, "cpu": offering.capacity.cpu, "memory": 4}],
    }


MODULE: dict[str, Any] = {
    "schema": "preprov/terraform/1",
    "name": "nightly",
    "counts_owner": "terraform",
    "counts_variable": "preprov_counts",
    "groups": [declared("cheap", SMALL, Standby.STOPPED), declared("quick", LARGE, Standby.HIBERNATED)],
}


@dataclass
class _Vm:
    began_at: datetime
    kept: bool
    came_from: Standby = Standby.COLD
    drains: bool = False
    running: tuple[str, ...] = ()


@dataclass
class Follower:
    """The vendor: as many nodes as the applied counts say, each with a boot of its own."""

    folder: Path
    clock: VirtualClock
    name: str = "local"
    vms: dict[str, _Vm] = field(default_factory=dict)
    serial: int = 0

    def observe(self, pool: Pool) -> PoolObservation:
        path = self.folder / "state.json"
        counts: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}
        nodes = [n for g in pool.groups if pool.name == "nightly" for n in self._of(pool, g, counts.get(g.name, {}))]
        return PoolObservation(pool.name, self.clock.now(), tuple(nodes))

    def _of(self, pool: Pool, group: Group, counts: Mapping[str, int]) -> list[Node]:
        self._follow(group, counts.get("running", 0), counts.get("standby", 0))
        return [self._node(pool, group, i, vm) for i, vm in self.vms.items() if i.startswith(f"{group.name}-")]

    def _follow(self, group: Group, running: int, standby: int) -> None:
        mine = {i: vm for i, vm in self.vms.items() if i.startswith(f"{group.name}-")}
        serving, kept = [i for i, vm in mine.items() if not vm.kept], [i for i, vm in mine.items() if vm.kept]
        state = _state(group)
        while kept and len(serving) < running:
            vm = self.vms[kept.pop(0)]
            vm.began_at, vm.kept, vm.came_from = self.clock.now(), False, state
            running -= 1
        for _ in range(running - len(serving)):
            self._make(group, kept=False)
        for _ in range(standby - len(kept)):
            self._make(group, kept=True)
        for i in kept[standby:]:
            del self.vms[i]

    def _make(self, group: Group, *, kept: bool) -> None:
        self.serial += 1
        self.vms[f"{group.name}-{self.serial:03d}"] = _Vm(self.clock.now(), kept)

    def _node(self, pool: Pool, group: Group, node_id: str, vm: _Vm) -> Node:
        now, ready_at = self.clock.now(), vm.began_at + BOOT
        phase = Phase.WARMING if now < ready_at else Phase.DRAINING if vm.drains else Phase.READY
        if vm.kept and now >= ready_at:
            phase = KEPT[_state(group)]
        return Node(
            node_id,
            pool.name,
            group.name,
            group.offerings[0],
            phase,
            vm.began_at,
            vm.began_at,
            ready_at=ready_at if phase in (Phase.READY, Phase.DRAINING) else None,
            running=vm.running,
            came_from=vm.came_from,
        )

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        for i in node_ids:
            self.vms[i].drains = True

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        raise AssertionError("not asked")

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        raise AssertionError("every count goes through Terraform")

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        raise AssertionError("every count goes through Terraform")

    hibernate = stop = terminate = drain


def _state(group: Group) -> Standby:
    return next(iter(group.standby_states - {Standby.RUNNING}), Standby.STOPPED)


class TerraformWorld:
    """Fits the contract suite."""

    preload = Preload()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock(T0)
        self.vendor = Follower(folder, self.clock)
        program = folder / "terraform"
        program.write_text(FAKE.read_text().replace("/usr/bin/env python3", f"{sys.executable} -IS", 1))
        program.chmod(0o755)
        (folder / "module.json").write_text(json.dumps(MODULE))
        given = {"dir": str(folder), "variable": "preprov_counts", "vendor": "local", "program": str(program)}
        cheap = Group("cheap", "terraform", (SMALL,), frozenset({Standby.STOPPED}), max_nodes=8, options=given)
        self.quick = Group("quick", "terraform", (LARGE,), frozenset({Standby.HIBERNATED}), max_nodes=8, options=given)
        self.pool = Pool("nightly", (cheap,))
        self.provider = self.again()

    def again(self) -> TerraformProvider:
        return TerraformProvider(lambda _: self.vendor)

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(100):
            if look():
                return
            self.clock.sleep(10)
        raise AssertionError(f"waited in vain for {what}")

    def occupy(self, node: Node) -> str:
        seen = {n.node_id: n for n in self.provider.observe(self.pool).nodes}
        if node.node_id not in seen or seen[node.node_id].phase is not Phase.READY:
            raise PoolError("takes no task", where=node.node_id)
        self.vendor.vms[node.node_id].running = (f"run/{node.node_id}#0",)
        return f"run/{node.node_id}#0"

    def free(self, node: Node) -> None:
        self.vendor.vms[node.node_id].running = ()

    def spoiled(self) -> None:
        """Terraform is told counts, not what is to be on a disk."""

    def exhausted(self) -> Pool:
        (self.folder / "faults.json").write_text(json.dumps({"apply_fails": "api error InsufficientInstanceCapacity"}))
        return self.pool

    def tiers(self) -> Pool:
        return Pool("nightly", (*self.pool.groups, self.quick))


@contextmanager
def terraform_world(folder: Path) -> Iterator[TerraformWorld]:
    folder.mkdir(exist_ok=True)
    yield TerraformWorld(folder)
