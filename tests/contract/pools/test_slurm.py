"""Slurm's cloud nodes, on a Slurm that behaves, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.fakeslurmworld import FakeSlurmWorld, fake_slurm_world


class TestSlurm(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[FakeSlurmWorld]:
        with fake_slurm_world(tmp_path) as world:
            yield world


class TestNewerSlurm(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[FakeSlurmWorld]:
        with fake_slurm_world(tmp_path, newer=True) as world:
            yield world
