"""Values to the database and back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.errors import StoreError
from preprov.model.plans import Action, ActionKind, CapacityPlan
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, DatasetRef, ImageRef, TaskSpec
from preprov.store import codec
from preprov.store.database import Store
from preprov.testing.store_examples import A_DAG, T0

amounts = st.floats(0, 1e12)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
names = st.text(min_size=1, max_size=8)
words = st.dictionaries(names, st.text(max_size=5), max_size=2)
specs = st.builds(
    TaskSpec,
    task_id=names,
    command=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    request=st.builds(Resources, amounts, amounts, amounts, amounts, amounts),
    instances=st.integers(1, 10**6),
    gang=st.booleans(),
    runtime_hint_s=st.none() | st.floats(1e-6, 1e9),
    priority=st.none() | st.integers(-9, 9),
    images=st.lists(st.builds(ImageRef, names, st.text(max_size=9)), max_size=2).map(tuple),
    datasets=st.lists(st.builds(DatasetRef, names, st.text(max_size=3), size_gib=st.none() | amounts), max_size=2).map(
        tuple
    ),
    env=words,
    affinity=words,
)
dags = st.builds(
    DagSpec,
    dag_id=names,
    tasks=st.lists(specs, min_size=1, max_size=3, unique_by=lambda t: t.task_id).map(tuple),
    due=st.none() | instants,
    land_by=st.none() | instants,
    schedule=st.none() | st.just("0 2 L * *"),
    max_cost_usd=st.none() | amounts,
)


@given(dags)
def test_a_dag_comes_back_exactly(dag: DagSpec) -> None:
    assert codec.load(DagSpec, codec.dump(dag)) == dag


@given(st.dictionaries(names, st.floats(allow_nan=False), max_size=3), instants)
def test_a_plan_comes_back_exactly(numbers: dict[str, float], at: datetime) -> None:
    action = Action("a", ActionKind.HOLD, at, "g", 0, "r", numbers=numbers)
    plan = CapacityPlan("p", "q", Mode.FULL, at, at, (action,), cost_usd=0.1 + 0.2, notes=("n",))
    assert codec.load(CapacityPlan, codec.dump(plan)) == plan


def test_numbers_of_numpy_are_numbers() -> None:
    numbers = {"a": np.float64(0.5), "b": np.float32(0.25), "c": np.int64(3), "d": float("inf")}
    action = Action("a", ActionKind.HOLD, T0, "g", np.int64(2), "r", numbers=numbers)  # type: ignore[arg-type]
    found = codec.load(Action, codec.dump(action))
    assert dict(found.numbers) == {"a": 0.5, "b": 0.25, "c": 3.0, "d": float("inf")}
    assert found.count == 2


def test_plain_values_have_a_form_or_are_refused() -> None:
    made = codec.dump_json({"t": T0, "s": {"b", "a"}, "n": np.arange(2), "m": A_DAG.tasks[0].env})
    assert codec.load_json(made) == {"t": T0.isoformat(), "s": ["a", "b"], "n": [0, 1], "m": {}}
    with pytest.raises(TypeError):
        codec.dump_json({"o": object()})


@pytest.mark.parametrize("document", ["{", "{}", '{"dag_id": 3}', "[]"])
def test_a_damaged_document_is_an_error_that_names_it(document: str) -> None:
    with pytest.raises(StoreError, match="DagSpec"):
        codec.load(DagSpec, document)


def test_arrays_are_never_unpickled() -> None:
    import io

    out = io.BytesIO()
    np.savez(out, bad=np.array([object()]))
    for blob in (out.getvalue(), b"", b"PK\x03\x04", b"\x80\x05N."):
        with pytest.raises(StoreError):
            codec.load_arrays(blob)
    with pytest.raises(StoreError):
        codec.dump_arrays({"bad": np.array([object()])})


def test_a_naive_time_is_refused(store: Store) -> None:
    naive = datetime(2025, 1, 1)  # noqa: DTZ001
    with pytest.raises(StoreError, match=r"^refused to store 2025-01-01T00:00:00: it has no time zone"):
        store.ports().votes.replace("p", {"n": naive})
    assert store.ports().votes.votes("p") == {}


@given(instants, st.integers(-14 * 60, 14 * 60))
def test_an_instant_of_any_zone_comes_back_in_utc(store_of_instants: Store, at: datetime, offset: int) -> None:
    votes = store_of_instants.ports().votes
    votes.replace("p", {"n": at.astimezone(timezone(timedelta(minutes=offset)))})
    found = votes.votes("p")["n"]
    assert found == at
    assert found.tzinfo is UTC


@pytest.fixture(scope="module")
def store_of_instants(tmp_path_factory: pytest.TempPathFactory) -> Store:
    from preprov.store.database import open_store

    return open_store("", tmp_path_factory.mktemp("instants"))


def test_a_spec_with_everything_comes_back_exactly() -> None:
    dag = replace(A_DAG, due=T0, land_by=T0, schedule="0 2 * * *", zone="Europe/Zurich", pool="p", queue="q")
    assert codec.load(DagSpec, codec.dump(dag)) == dag
