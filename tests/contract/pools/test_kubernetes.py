"""Room in a Kubernetes cluster that behaves, through the real client, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.kubernetesworld import KubernetesWorld, kubernetes_world


class TestKubernetes(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesWorld]:
        with kubernetes_world(tmp_path) as world:
            yield world
