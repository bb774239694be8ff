"""Virtual time."""

from datetime import UTC, datetime, timedelta

import pytest

from preprov.contracts import Clock
from preprov.model.errors import ConfigError
from preprov.sim.clock import VirtualClock

T0 = datetime(2026, 1, 5, tzinfo=UTC)


def test_it_moves_only_when_told_and_never_back():
    clock = VirtualClock(T0)
    typed: Clock = clock
    assert typed.now() == T0
    clock.sleep(1.5)
    clock.sleep(-3)
    assert clock.now() == T0 + timedelta(seconds=1.5)
    clock.advance_to(T0 + timedelta(hours=1))
    with pytest.raises(ConfigError):
        clock.advance_to(T0)
    with pytest.raises(ConfigError):
        VirtualClock(datetime(2026, 1, 5))  # noqa: DTZ001
