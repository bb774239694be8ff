import numpy as np
import pandas as pd
import pytest

from preprov.demand.runtimes import RuntimeModel
from preprov.demand.sizes import CLASSES, learn_sizes, size_class
from tests.unit.demand.work import AT, HOUR, Run, Task, table


def test_a_large_task_of_which_nothing_is_known_is_not_taken_for_a_small_one() -> None:
    rng = np.random.default_rng(0)
    runs = [
        Run(f"r{i}", f"d{i}", -HOUR * (i + 20), [Task("t", float(seconds * rng.lognormal(0, 0.3)), cpu=cores)])
        for i in range(600)
        for cores, seconds in [(1.0, 10.0) if i % 6 else (512.0, 3_000.0)]
    ]
    model = RuntimeModel.learn(table(runs).as_of(AT), AT)
    new = pd.DataFrame({"signature": ["new/a", "new/a"], "hint_s": np.nan, "cpu": [1.0, 512.0], "instances": 1})
    small, large = np.median(model.draw(new, np.zeros(2), 400, rng), axis=1)
    assert small == pytest.approx(10.0, rel=0.5)
    assert large == pytest.approx(3_000.0, rel=0.5)


def test_instances_count_and_sensors_are_smallest() -> None:
    tasks = pd.DataFrame({"cpu": [0.0, 1.0, 1.0, 64.0, 1e9], "instances": [1, 1, 64, 1, 9]})
    found = size_class(tasks).tolist()
    assert found[0] == 0
    assert found[1] < found[2] == found[3] < found[4] == CLASSES - 1


def test_classes_never_seen_take_the_nearest() -> None:
    size, log = np.repeat([2, 5], 500), np.repeat([1.0, 3.0], 500)
    found = learn_sizes(size, log, np.ones(1000))
    assert found[0] == found[2] == pytest.approx(-1.0, rel=0.05)
    assert found[-1] == found[5] == pytest.approx(1.0, rel=0.05)
    assert not learn_sizes(np.empty(0, np.int64), np.empty(0), np.empty(0)).any()
