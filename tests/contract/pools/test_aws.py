"""The AWS provider, through the real SDK over HTTP, against the suite every provider passes."""

from collections.abc import Iterator

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.awsworld import AwsWorld, aws_world


class TestFleet(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch) as world:
            yield world


@pytest.mark.slow
class TestStoppedWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Stopped") as world:
            yield world


@pytest.mark.slow
class TestHibernatedWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Hibernated") as world:
            yield world


@pytest.mark.slow
class TestRunningWarmPool(PoolContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
        with aws_world(monkeypatch, warm="Running") as world:
            yield world
