"""Drift: silent on losses that stay as they are, loud when they rise, deaf to a fall."""

import numpy as np
import pytest

from preprov.demand.watching.drift import alarms


def losses(rng: np.random.Generator, hours: int, level: float = 0.5) -> np.ndarray:
    """Heavy-tailed, related from hour to hour and with a day's pattern, as pinball losses are."""
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.6 * noise[i - 1] + rng.normal(0, 0.5)
    return level * (1 + 0.3 * np.sin(np.arange(hours) * 2 * np.pi / 24)) * np.exp(noise)


def test_nothing_is_said_of_losses_that_stay_as_they_are() -> None:
    false = sum(len(alarms(losses(np.random.default_rng(seed), 24 * 60))) for seed in range(5))
    assert false <= 1, "five times sixty days"


@pytest.mark.parametrize("seed", range(3))
def test_losses_that_treble_are_noticed_within_a_few_days(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = alarms(np.concatenate([losses(rng, 24 * 20), losses(rng, 24 * 10, 1.5)]))
    late = [a for a in found if a.index >= 24 * 20]
    assert late
    assert late[0].index < 24 * 26
    assert late[0].after > late[0].before


def test_losses_that_fall_are_no_drift() -> None:
    rng = np.random.default_rng(4)
    assert alarms(np.concatenate([losses(rng, 24 * 15, 1.5), losses(rng, 24 * 10, 0.3)])) == ()


def test_a_few_losses_say_nothing_and_one_terrible_hour_is_one_hour() -> None:
    assert alarms([]) == ()
    assert alarms([9.0] * 20) == ()
    calm = np.full(24 * 20, 0.4)
    calm[300] = 1e9
    assert alarms(calm) == ()
