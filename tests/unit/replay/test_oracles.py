"""The engine against a model in SimPy that shares no code with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.worktable import WorkTable
from preprov.replay.policies import Reactive

from .simpy_reactive import Model
from .test_engine import play, starts
from .traces import E0, T, pool_of, work_of

# Times on a grid on which no two events of different making meet: ticks, ends, nodes and arrivals never tie.
SECONDS = st.integers(1, 3000).map(lambda n: n + 0.137)
TASKS = st.lists(
    st.builds(T, runtime=SECONDS, cpu=st.sampled_from([1.0, 2.0, 3.0, 4.0]), memory=st.just(0.0)),
    min_size=1,
    max_size=5,
)


@st.composite
def small(draw) -> WorkTable:
    runs = []
    for n, submit in enumerate(draw(st.lists(st.integers(0, 9000), min_size=1, max_size=8, unique=True))):
        members = draw(TASKS)
        linked = [
            T(
                t.runtime + 0.0011 * (i + 7 * n),
                t.cpu,
                0.0,
                tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=2)))) if i else (),
            )
            for i, t in enumerate(members)
        ]
        runs.append((submit + 0.00073 * n + 0.0219, linked))
    return work_of(runs)


@pytest.mark.slow
@settings(max_examples=30)
@given(small(), st.sampled_from([60.0, 600.0]), st.sampled_from([45.0313, 187.0417]))
def test_the_reactive_autoscaler_is_that_of_simpy(work: WorkTable, idle_s: float, lead_s: float):
    result = play(work, pool_of(cpu=4, lead_s=lead_s), Reactive(idle_s), hours=12, warm_up_s=600)
    model = Model(work, 4.0, lead_s, idle_s, E0 - 600).run(E0 + 12 * 3600)
    assert starts(result) == {i: [pytest.approx(at - E0, abs=1e-3)] for i, at in model.starts.items()}
    assert len(model.starts) == len(work.tasks)
    assert result.node_hours == pytest.approx(model.hours, abs=1e-6 * len(model.launches) + 1e-9)
    assert result.nodes["node_id"].nunique() == len(model.launches)
