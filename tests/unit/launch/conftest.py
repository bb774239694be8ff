"""A node of the test's own, cleared away whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.testing.local_nodes import cleared
from tests.localnodes import LocalWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LocalWorld]:
    with cleared(tmp_path) as home:
        yield LocalWorld(home, sample_s=0.1)
