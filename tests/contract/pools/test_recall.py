"""The providers that tell of past warmings, each against the suite for that, over the protocol of its fake."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from preprov.contracts import RecallsLeads
from preprov.model.pools import Pool
from preprov.model.time import epoch, from_epoch
from preprov.testing.fake_aws_groups import Activity
from preprov.testing.fake_slurm import FakeJob
from preprov.testing.recall_contract import RecallContract, RecallWorld
from tests.awsworld import T0, ZONE, AwsWorld, aws_world
from tests.azureworld import AzureWorld, azure_world
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world
from tests.gcpworld import GcpWorld, gcp_world
from tests.kubernetesworld import KubernetesWorld, kubernetes_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BACK = timedelta(days=13)


class _World:
    """What they share."""

    def __init__(self, world: Any, now: datetime, group: str) -> None:
        provider: object = world.provider
        assert isinstance(provider, RecallsLeads)
        self.provider, self.group = provider, group
        self.pool: Pool = world.pool
        self.now, self.began = now, now - BACK


class OfAws(_World):
    def __init__(self, world: AwsWorld) -> None:
        super().__init__(world, T0, "g")
        self.cloud = world.cloud

    def warm(self, count: int) -> None:
        kept = self.cloud.groups.activities("nodes")
        for i in range(count):
            at = epoch(self.now) - 3600 * (i + 1)
            text = f"Launching a new EC2 instance: i-{i:017x}"
            kept.append(Activity(text, "", ZONE, at - 60, at, "Successful"))

    def refuse(self) -> None:
        self.cloud.faults.denied = {"autoscaling:DescribeScalingActivities"}


class OfSlurm(_World):
    def __init__(self, world: FakeSlurmWorld) -> None:
        super().__init__(world, from_epoch(float(int(time.time()) - 3600)), "g")
        self.slurm = world.slurm

    def warm(self, count: int) -> None:
        up = epoch(self.now)
        for i in range(1, count + 1):
            self.slurm.events.append((f"cn{i}", "IDLE~", up - 500, up))
            self.slurm.jobs[100 + i] = FakeJob(
                100 + i, state="COMPLETED", node=f"cn{i}", submit=up - 1, start=up + 45, end=up + 60
            )

    def refuse(self) -> None:
        self.slurm.answers = 0


class OfGcp(_World):
    def __init__(self, world: GcpWorld) -> None:
        super().__init__(world, world.clock.now(), "vms")
        self.fake = world.fake

    def warm(self, count: int) -> None:
        for i in range(count):
            at = self.now - timedelta(hours=i + 1)
            self.fake.operations.begin("insert", f"instances/nodes-vm-{i}", 20, at=at)

    def refuse(self) -> None:
        self.fake.faults.denied = {"compute.zoneOperations.list"}


class OfAzure(_World):
    def __init__(self, world: AzureWorld) -> None:
        super().__init__(world, world.clock.now(), "vms")
        self.world = world

    def warm(self, count: int) -> None:
        lender = self.world.provider._lender(self.pool, self.group)
        sets = self.world.provider._tools.clients.compute(lender.options.place).virtual_machine_scale_sets
        for _ in range(count):
            sku = lender.settings()["sku"]
            more = {"sku": {**sku, "capacity": int(sku["capacity"]) + 1}}
            sets.begin_update(self.world.fake.resource_group, "nodes", more, polling=False)
            self.world.clock.sleep(60)

    def refuse(self) -> None:
        self.world.fake.faults.denied = {"Microsoft.Compute/virtualMachines/read"}


class OfKubernetes(_World):
    def __init__(self, world: KubernetesWorld) -> None:
        super().__init__(world, world.clock.now(), "g")
        self.world = world

    def warm(self, count: int) -> None:
        for _ in range(count):
            self.world.fake.node(ready_in=30)
            self.world.clock.sleep(60)

    def refuse(self) -> None:
        self.world.fake.granted = set()


class TestAws(RecallContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecallWorld]:
        with aws_world(monkeypatch, warm="Stopped") as made:
            yield OfAws(made)


class TestSlurm(RecallContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[RecallWorld]:
        with fake_slurm_world(tmp_path, newer=True) as made:
            yield OfSlurm(made)


class TestGcp(RecallContract):
    @pytest.fixture
    def world(self) -> Iterator[RecallWorld]:
        with gcp_world() as made:
            yield OfGcp(made)


class TestAzure(RecallContract):
    @pytest.fixture
    def world(self) -> Iterator[RecallWorld]:
        with azure_world() as made:
            yield OfAzure(made)


class TestKubernetes(RecallContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[RecallWorld]:
        with kubernetes_world(tmp_path, idle_s=1e9) as made:
            yield OfKubernetes(made)
