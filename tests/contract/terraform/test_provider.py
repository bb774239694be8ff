"""Counts that go through Terraform, against the suite every provider passes, as far as they declare that they can."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.pool_contract import PoolContract
from tests.terraformworld import TerraformWorld, terraform_world


class TestTerraform(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[TerraformWorld]:
        with terraform_world(tmp_path / "root") as world:
            yield world
