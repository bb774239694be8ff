"""Twenty real tasks under cgroups, with and without adjusting, from the same seed: who ends sooner, and is one killed.

One pair in every run; with PREPROV_LONG=1 the five whose median the documents give.
"""

import os
import sys
from statistics import median

import pytest

from benchmarks.adjusting import draw, night
from preprov.agent.limits import detect
from preprov.model.adjusting import Adjusting

TASKS, SPEED = 20, 12.0
REPEATS = 5 if os.environ.get("PREPROV_LONG") else 1
MOST = 0.9 if REPEATS > 1 else 1.05
"""Of the median of five; a single pair came to .69 to .88 and is given room for what else the machine does."""


@pytest.mark.skipif(detect() == "rlimit", reason="cgroups cannot be written here")
def test_twenty_tasks_end_sooner_and_none_is_killed() -> None:
    """Under-use is reclaimed for those that wait, over-use raised; both arms have the same loads."""
    ratios = []
    for seed in range(REPEATS):
        loads = draw(seed, TASKS, "people")
        arms = [("without", None), ("with", Adjusting())]
        # who goes first alternates, as whatever else runs may come and go
        found = {name: night(loads, manner, SPEED) for name, manner in (arms if seed % 2 == 0 else arms[::-1])}
        ours, control = found["with"], found["without"]
        assert (ours.killed, control.killed) == (0, 0), found
        assert ours.lowered, "what is not used was taken"
        assert ours.raised, "what was short got more"
        assert (control.lowered, control.raised) == (0, 0)
        ratios.append(ours.makespan_s / control.makespan_s)
    sys.stdout.write(f"makespan with adjusting over without: {', '.join(f'{r:.2f}' for r in ratios)}\n")
    assert median(ratios) <= MOST, ratios
