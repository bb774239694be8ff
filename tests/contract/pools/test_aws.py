"""The AWS provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.awsworld import AwsWorld, aws_world


class TestFleet(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch) as world:
            yield world


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestStoppedWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Stopped") as world:
            yield world


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestHibernatedWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Hibernated") as world:
            yield world


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestRunningWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Running") as world:
            yield world


@pytest.mark.integration
class TestFleetWithAgents(PoolContract):
    """Nodes are ready because a real agent verified them, and tasks are handed to it."""

    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, home=tmp_path) as world:
            yield world


@pytest.mark.integration
class TestWarmPoolWithAgents(PoolContract):
    """Lifecycle hooks are completed because a real agent verified the node."""

    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Running", home=tmp_path) as world:
            yield world
