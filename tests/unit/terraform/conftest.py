"""A pool whose counts go through Terraform: a root module, a terraform that behaves, and a vendor that follows."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from preprov.contracts import Capabilities, LaunchRequest
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.pools.terraform import TerraformProvider

FAKE = Path(__file__).with_name("fake_terraform.py")
T0 = datetime(2025, 11, 3, 1, 0, tzinfo=UTC)
OFFERING = Offering("small", Resources(cpu=2, memory=4))
MODULE: dict[str, Any] = {
    "schema": "preprov/terraform/1",
    "name": "nightly",
    "counts_owner": "terraform",
    "counts_variable": "preprov_counts",
    "groups": [
        {
            "name": "cheap",
            "provider": "local",
            "states": ["running", "stopped"],
            "max_nodes": 8,
            "standby": "stopped",
            "offerings": [{"type": "small", "cpu": 2, "memory": 4}],
        },
        {
            "name": "plain",
            "provider": "local",
            "states": ["running"],
            "max_nodes": 4,
            "offerings": [{"type": "small", "cpu": 2, "memory": 4}],
        },
    ],
}


@dataclass
class Vendor:
    """Nodes as the applied counts have them."""

    folder: Path
    busy: set[str] = field(default_factory=set)
    drained: list[str] = field(default_factory=list)
    name: str = "local"

    def counts(self) -> dict[str, dict[str, int]]:
        path = self.folder / "state.json"
        found: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def observe(self, pool: Pool) -> PoolObservation:
        assert {g.provider for g in pool.groups} == {"local"}
        nodes = [n for g in pool.groups for n in self._of(pool, g, self.counts().get(g.name, {}))]
        return PoolObservation(pool.name, T0, tuple(nodes))

    def _of(self, pool: Pool, group: Group, counts: Mapping[str, int]) -> list[Node]:
        def node(kind: str, i: int, phase: Phase) -> Node:
            name = f"{group.name}-{kind}{i}"
            running = ("run/t#0",) if name in self.busy else ()
            return Node(name, pool.name, group.name, OFFERING, phase, T0, T0, running=running)

        serving = [node("r", i, Phase.READY) for i in range(counts.get("running", 0))]
        return serving + [node("s", i, Phase.STOPPED) for i in range(counts.get("standby", 0))]

    def drain(self, pool: Pool, node_ids: Sequence[str]) -> None:
        self.drained += node_ids

    def capabilities(self, pool: Pool, group: str) -> Capabilities:
        raise AssertionError("not asked")

    def launch(self, request: LaunchRequest) -> tuple[str, ...]:
        raise AssertionError("every count goes through Terraform")

    def start(self, pool: Pool, node_ids: Sequence[str], preload: Preload) -> None:
        raise AssertionError("every count goes through Terraform")

    hibernate = stop = terminate = drain


@dataclass
class Root:
    """The root module."""

    folder: Path
    vendor: Vendor
    provider: TerraformProvider
    pool: Pool

    def faults(self, **faults: object) -> None:
        (self.folder / "faults.json").write_text(json.dumps(faults))

    def declare(self, **changes: object) -> None:
        (self.folder / "module.json").write_text(json.dumps(MODULE | changes))

    @property
    def file(self) -> Path:
        return self.folder / "preprov_counts.auto.tfvars.json"

    @property
    def applied(self) -> int:
        path = self.folder / "applied"
        return len(path.read_text()) if path.exists() else 0

    def with_options(self, **options: object) -> Pool:
        return make_pool(self.folder, **options)

    def request(
        self, count: int = 1, token: str = "t1", *, group: str = "cheap", pool: Pool | None = None
    ) -> LaunchRequest:
        return LaunchRequest(pool or self.pool, group, OFFERING, count, token, Preload())


def make_pool(folder: Path, **options: object) -> Pool:
    given = {"dir": str(folder), "variable": "preprov_counts", "vendor": "local", "program": str(folder / "terraform")}
    both = {**given, **options}
    return Pool(
        "nightly",
        (
            Group("cheap", "terraform", (OFFERING,), frozenset({Standby.STOPPED}), max_nodes=8, options=both),
            Group("plain", "terraform", (OFFERING,), max_nodes=4, options=both),
        ),
    )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "root"
    folder.mkdir()
    program = folder / "terraform"
    program.write_text(FAKE.read_text().replace("/usr/bin/env python3", f"{sys.executable} -IS", 1))
    program.chmod(0o755)
    vendor = Vendor(folder)
    made = Root(folder, vendor, TerraformProvider(lambda name: {"local": vendor}[name]), make_pool(folder))
    made.declare()
    return made
