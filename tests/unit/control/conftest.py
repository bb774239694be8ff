from collections.abc import Callable

import pytest

from tests.unit.control.world import World
from tests.unit.control.world import make_world as make


@pytest.fixture
def make_world() -> Callable[..., World]:
    return make
