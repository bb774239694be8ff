"""The page of contracts says of every method what a caller has to know; measuring covers each of them."""

import inspect

import pytest

from preprov.contracts import (
    Adopts,
    BakesImages,
    Examined,
    GivesNotice,
    KeepsNodes,
    KeepsVolumes,
    LeasesRaises,
    LeavesNotes,
    PoolProvider,
    Preflights,
    Quotes,
    RecallsLeads,
    SetsFloor,
    SetsTargets,
    Tended,
)
from preprov.model import errors
from preprov.pools.instrument import VERBS

PROTOCOLS = (
    PoolProvider,
    SetsTargets,
    SetsFloor,
    Tended,
    GivesNotice,
    KeepsNodes,
    KeepsVolumes,
    Quotes,
    Examined,
    Adopts,
    LeasesRaises,
    LeavesNotes,
    BakesImages,
    Preflights,
    RecallsLeads,
)
METHODS = {
    name: method
    for protocol in PROTOCOLS
    for name, method in vars(protocol).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_each_method_says_what_a_second_call_does_and_when_and_what_is_missing_and_what_may_be_retried(
    name: str,
) -> None:
    said = inspect.getdoc(METHODS[name]) or ""
    for word in ("Idempotent", "Consistent", "Absent", "Retryable"):
        assert word in said, f"{name} does not say: {word}"


def test_every_method_is_measured() -> None:
    assert set(VERBS) == set(METHODS)


def test_the_errors_a_provider_raises_say_whether_they_may_be_retried() -> None:
    kinds = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, errors.PoolError)]
    assert {e.__name__ for e in kinds if e.retryable} == {
        "InsufficientCapacityError",
        "ThrottledError",
        "ConflictError",
        "UnfinishedError",
    }
    assert {"QuotaExceededError", "NotAuthorisedError", "NotFoundError", "NodeBusyError"} <= {e.__name__ for e in kinds}
