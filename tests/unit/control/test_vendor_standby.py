"""What the optimum keeps in standby is launched into it by the vendors that can; what cannot be named is not ended."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Standby
from preprov.model.plans import ActionKind
from tests.clouds import CLOUDS, Cloud, cloud_of, in_bursts, planned, uncertain
from tests.terraformworld import terraform_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENDS = (ActionKind.TERMINATE, ActionKind.STOP, ActionKind.HIBERNATE)


@dataclass
class Terraform(Cloud):
    """A root module whose counts are its own."""


def kept(nodes: list[Node], state: Standby | None) -> int:
    return sum(n.standby is state for n in nodes)


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud_of(request.param, monkeypatch) as made:
        made.pool = uncertain(made.pool)
        yield made


def test_a_pass_has_the_vendor_keep_what_is_worth_keeping(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bursts(monkeypatch, 3)
    ctx, group, state = cloud.context(), cloud.pool.groups[0].name, cloud.pool.groups[0].quickest_kept
    cloud.lag(45)
    most = 0
    for _ in range(20):
        cloud.one_pass(ctx)
        wanted = sum(cloud.provider().targets(cloud.pool, group).values())
        assert wanted <= 3, "asked for twice"
        most = max(most, wanted)
        cloud.clock.sleep(30)
    cloud.lag(0)
    assert most == 3
    done = [r for r in cloud.ports.audit.records(cloud.pool.name) if r.result == "done"]
    done = [r for r in done if r.action.kind is not ActionKind.HOLD]
    assert {(r.action.kind, r.action.standby_state) for r in done} == {(ActionKind.LAUNCH, state)}
    assert f"keeps 3 {state}" in done[0].detail
    nodes = list(cloud.nodes().values())
    assert kept(nodes, state) == 3, "none of them was ever in service"


def test_a_wave_wakes_what_the_vendor_keeps(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bursts(monkeypatch, 2)
    monkeypatch.setattr(cloud.world, "tasks", SimpleNamespace(greeting=lambda: {"hello": "there"}))
    ctx, state = cloud.context(), cloud.pool.groups[0].quickest_kept
    cloud.until(ctx, 0, lambda: kept(list(cloud.nodes().values()), state) == 2, "two kept")
    cloud.until(ctx, 2 * cloud.pool.groups[0].offerings[0].capacity.cpu, lambda: len(cloud.ready()) == 2, "two ready")
    done = [r for r in cloud.ports.audit.records(cloud.pool.name) if r.result == "done"]
    woken = {i for r in done if r.action.kind is ActionKind.START for i in r.node_ids}
    assert {cloud.nodes()[i].tags.get("hello") for i in woken} == {"there"}, "told what launched nodes are told"
    assert not [r for r in done if r.action.kind is ActionKind.LAUNCH and r.action.standby_state is Standby.RUNNING]


def test_counts_that_terraform_owns_are_raised_and_no_node_is_ended_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terraform_world(tmp_path / "root") as world:
        cloud = Terraform(world, uncertain(planned(world.pool)))
        ctx, group = cloud.context(), cloud.pool.groups[0].name
        cloud.until(ctx, 2 * cloud.pool.groups[0].offerings[0].capacity.cpu, lambda: len(cloud.ready()) == 2, "a wave")
        in_bursts(monkeypatch, 5)
        records = cloud.passes(ctx, minutes=90)
        assert sum(cloud.provider().targets(cloud.pool, group).values()) == 3, "with the two in service, five"
        assert Counter(r.result for r in records if r.action.kind in ENDS) == {}
        assert [r.detail for r in records if r.result == "failed"] == []
        assert len([n for n in cloud.nodes().values() if n.phase is Phase.READY]) == 2
