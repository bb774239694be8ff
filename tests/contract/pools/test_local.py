"""The local provider, on real processes, against the suite every provider passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.local_nodes import cleared
from preprov.testing.pool_contract import PoolContract
from tests.localnodes import LocalWorld


class TestLocal(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalWorld]:
        with cleared(tmp_path) as home:
            yield LocalWorld(home)


@pytest.mark.slow
class TestLocalWithoutCgroups(PoolContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[LocalWorld]:
        with cleared(tmp_path) as home:
            yield LocalWorld(home, limits="rlimit")
