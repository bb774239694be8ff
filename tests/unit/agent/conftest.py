"""A node of the test's own, cleared away whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.model.nodes import Node
from preprov.testing.local_nodes import cleared
from tests.localnodes import LocalWorld


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with cleared(tmp_path) as folder:
        yield folder


@pytest.fixture
def world(home: Path) -> LocalWorld:
    return LocalWorld(home, sample_s=0.1)


@pytest.fixture
def node(world: LocalWorld) -> Node:
    return world.ready()[0]
