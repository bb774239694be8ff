import numpy as np
import pytest

from preprov.demand.pickup import Live, blended
from preprov.demand.remainder import remainder
from preprov.demand.spreading import Cells
from preprov.model.resources import KINDS
from tests.unit.demand.work import AT, HOUR, NOW, Run, Task, table

CPU, MEMORY = KINDS.index("cpu"), KINDS.index("memory")
S = 200


def new_demand(runs: list[Run], whole: float = 0.0, *, left: tuple[float, float] | None = None) -> np.ndarray:
    """(S, T, 5) mean of new demand in steps of five minutes over a day, where the model says `whole` cores throughout.

    Args:
        left: cores of what runs that are left in a quarter of an hour and in an hour, in every sample.
    """
    work = table(runs).as_of(AT)
    past = remainder(work, np.zeros(len(work.runs), dtype=bool), NOW, 300)
    cells = Cells.of(NOW, NOW, 300, 288)
    modelled = np.full((S, 288, 5), whole, dtype=np.float32)
    live = Live(None if left is None else np.repeat(np.array(left)[:, None], S, axis=1))
    mean, peak = blended(past, NOW, cells, (modelled, modelled), live, CPU, "UTC", seed=0)
    assert (peak >= mean - 1e-5).all()
    return mean


def bursts(days: int, every: int, *, cores: float = 40.0) -> list[Run]:
    """On one day in so many, a quarter of an hour after this time of day, ten minutes of many cores."""
    return [
        Run(f"b{d}", f"d{d}", 0.25 * HOUR - 24 * HOUR * d, [Task("t", 600.0, cpu=cores, memory=2 * cores)])
        for d in range(days, 0, -1)
        if d % every == 0
    ]


def test_soon_after_it_is_mostly_none_and_now_and_then_a_burst() -> None:
    found = new_demand(bursts(40, 3), whole=10.0)
    at_burst = found[:, 3, CPU]
    assert np.median(at_burst) < 1
    assert 0.02 < (at_burst > 20).mean() < 0.45
    burst = at_burst > 20
    assert found[burst, 3, MEMORY] == pytest.approx(2 * at_burst[burst], rel=1e-3)


def test_far_ahead_it_is_what_the_model_says() -> None:
    assert new_demand(bursts(40, 1), whole=10.0)[:, 200:, CPU] == pytest.approx(10.0)


def test_what_comes_depends_on_what_ends() -> None:
    """One job at a time: the next is submitted when the last has ended."""
    lengths = np.random.default_rng(0).uniform(0.5, 8.0, 400) * HOUR
    begins = -np.cumsum(lengths)[::-1]
    runs = [
        Run(f"r{i}", "d", b, [Task("t", b2 - b, cpu=8.0)])
        for i, (b, b2) in enumerate(zip(begins, [*begins[1:], HOUR], strict=True))
    ]
    stays, goes = new_demand(runs, left=(8.0, 8.0)), new_demand(runs, left=(0.0, 0.0))
    assert stays[:, :12, CPU].mean() < 1.5
    assert goes[:, 3:12, CPU].mean() > 5.0


def test_too_little_past_leaves_the_model() -> None:
    assert new_demand([], whole=3.0) == pytest.approx(3.0)
    assert new_demand(bursts(2, 1), whole=3.0) == pytest.approx(3.0)


def test_what_is_left_is_read_off_the_steps_that_hold_the_lead() -> None:
    samples = np.arange(2 * 24 * 5, dtype=np.float32).reshape(2, 24, 5)
    found = Live.of(samples, CPU, 0.0, 300.0).left
    assert found is not None
    assert found.tolist() == samples[:, [3, 12], CPU].T.tolist()
    assert Live.of(samples, CPU, 7_200.0, 300.0).left is None
    assert Live.of(samples[:, :4], CPU, 0.0, 300.0).left is None
    assert Live.of(None, CPU, 0.0, 300.0).left is None
