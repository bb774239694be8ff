"""Any provider can be measured without knowing of it."""

import pytest
from prometheus_client import CollectorRegistry

from preprov.contracts import LaunchRequest, SetsTargets, Tended
from preprov.model.errors import NotFoundError
from preprov.model.offerings import Preload
from preprov.model.reference import reference_pool
from preprov.pools.aws.provider import AwsProvider
from preprov.pools.instrument import VERBS, PrometheusMeter, instrumented
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from tests.awsworld import T0

POOL = reference_pool("p", max_nodes=4)


class Notes:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def called(self, provider: str, verb: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((provider, verb, outcome))


def test_every_call_is_measured_and_answers_as_before() -> None:
    notes, cloud = Notes(), SimCloud(VirtualClock(T0))
    provider = instrumented(cloud, notes)
    group = POOL.groups[0]
    ids = provider.launch(LaunchRequest(POOL, group.name, group.offerings[0], 2, "t", Preload()))
    assert [n.node_id for n in provider.observe(POOL).nodes] == list(ids)
    assert provider.name == "sim"
    assert notes.seen == [("sim", "launch", "ok"), ("sim", "observe", "ok")]


def test_errors_are_counted_by_name_and_let_through() -> None:
    notes = Notes()
    provider = instrumented(SimCloud(VirtualClock(T0)), notes)
    with pytest.raises(NotFoundError):
        provider.start(POOL, ["nobody"], Preload())
    assert notes.seen == [("sim", "start", "NotFoundError")]


def test_what_a_provider_can_do_shows_through() -> None:
    sim = instrumented(SimCloud(VirtualClock(T0)), Notes())
    aws = instrumented(AwsProvider(VirtualClock(T0)), Notes())
    assert not isinstance(sim, SetsTargets)
    assert isinstance(aws, SetsTargets)
    assert isinstance(aws, Tended)
    assert [verb for verb in VERBS if not hasattr(aws, verb)] == ["keep"], "AWS has no idle timer of its own"


def test_prometheus_gets_base_units() -> None:
    registry = CollectorRegistry()
    provider = instrumented(SimCloud(VirtualClock(T0)), PrometheusMeter(registry))
    provider.observe(POOL)
    labels = {"provider": "sim", "verb": "observe", "outcome": "ok"}
    assert registry.get_sample_value("preprov_provider_call_seconds_count", labels) == 1
