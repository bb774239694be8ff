"""Room in a Kubernetes cluster that behaves, through the real client, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.kubernetesworld import JoinWorld, KubernetesWorld, counted_world, join_world, kubernetes_world


class TestKubernetes(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesWorld]:
        with kubernetes_world(tmp_path) as world:
            yield world


class TestCapacityBuffer(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesWorld]:
        with counted_world(tmp_path, "capacity_buffer") as world:
            yield world


class TestNodePool(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesWorld]:
        with counted_world(tmp_path, "node_pool", replicas=2) as world:
            yield world


class TestNodeJoin(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[JoinWorld]:
        with join_world(tmp_path) as world:
            yield world
