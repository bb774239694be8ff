"""A night's faults on each cloud: nothing doubled, nothing leaked, no running task ended, every cause in the record."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from preprov.control.adopting import adopt, release
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Guards, Pool
from tests.clouds import CLOUDS, DATASET, Cloud, cloud_of, launches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """One of the clouds; whatever a test does there, nothing of it is left once it is given back."""
    with cloud_of(request.param, monkeypatch, preload=Preload(datasets=(DATASET,))) as made:
        adopt(made.context(), made.pool)
        found = made.settings()
        yield made
        nothing_leaked(made, found)


def nothing_leaked(cloud: Cloud, found: object) -> None:
    for node in cloud.nodes().values():
        if node.running:
            cloud.world.free(node)
    for _ in range(15):
        back = release(cloud.context(), cloud.pool)
        if all(b.whole for b in back):
            break
        cloud.clock.sleep(120)
    cloud.clock.sleep(600)
    assert cloud.nodes() == {}
    assert cloud.machines() == 0
    assert cloud.settings() == found


def cores(cloud: Cloud, nodes: int) -> float:
    return nodes * cloud.pool.groups[0].offerings[0].capacity.cpu


def two_ready(cloud: Cloud) -> tuple[Node, Node]:
    """Two nodes, the first of which works."""
    ctx = cloud.context()
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 2, "two nodes")
    busy, idle = cloud.ready()
    cloud.world.occupy(busy)
    return busy, idle


def still_works(cloud: Cloud, busy: Node) -> bool:
    return bool(cloud.nodes()[busy.node_id].running)


def causes(records: list[ActionRecord]) -> str:
    return " | ".join(f"{r.action.reason} {r.detail}" for r in records)


def impatient(pool: Pool) -> Pool:
    """One whose SDK gives up soon; that of Google counts by a clock of its own."""
    (group,) = pool.groups
    soon = {k: 0.2 for k in group.options if k == "retry"}
    return replace(pool, groups=(replace(group, options={**group.options, **soon}),))


class KilledError(BaseException):
    """The controller dies here."""


def test_killed_between_request_and_response(cloud: Cloud) -> None:
    """The machines were asked for, and nobody heard the answer: the token prevents a second node."""
    provider = cloud.provider()
    asked = provider.launch

    def dies(request: object) -> tuple[str, ...]:
        asked(request)
        raise KilledError

    provider.launch = dies
    with pytest.raises(KilledError):
        cloud.one_pass(cloud.context(provider), cores(cloud, 2))
    assert launches(list(cloud.ports.audit.records()), "done") == []
    cloud.clock.sleep(90)
    ctx = cloud.context()
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 2, "the two that were asked for")
    assert cloud.machines() == 2
    (done,) = launches(list(cloud.ports.audit.records()), "done")
    assert done.action.count == 2


def test_throttled_at_two_calls_a_second(cloud: Cloud) -> None:
    provider, ctx = cloud.provider(), cloud.context()
    asked = provider.launch

    def refused(request: object) -> tuple[str, ...]:
        with cloud.throttled(0):
            return asked(request)

    provider.launch = refused
    patient, cloud.pool = cloud.pool, impatient(cloud.pool)
    seen = cloud.one_pass(cloud.context(provider), cores(cloud, 2)).records
    cloud.pool = patient
    (record,) = [r for r in seen if r.result == "failed"]
    assert "ThrottledError" in record.detail, "the SDK's own patience was over, and the record says with what"
    with cloud.throttled(2):
        records = cloud.passes(ctx, cores(cloud, 2), minutes=1.5, every_s=30)
    cloud.clock.sleep(120)
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 2, "two nodes")
    assert cloud.machines() == 2
    failed = [r for r in records if r.result == "failed"]
    assert all("ThrottledError" in r.detail or "ConflictError" in r.detail for r in failed), causes(failed)


def test_notes_that_cannot_be_written_on_new_machines(cloud: Cloud) -> None:
    """They came, and are known by nothing: the launch is finished as soon as it can be, and makes no second ones."""
    ctx = cloud.context()
    with cloud.no_notes():
        cloud.one_pass(ctx, cores(cloud, 2))
        cloud.clock.sleep(30)
    unfinished = [r for r in cloud.ports.audit.records() if r.result == "intended" and "NotAuthorised" in r.detail]
    assert bool(unfinished) == cloud.notes_later
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 2, "two nodes")
    (done,) = launches(list(cloud.ports.audit.records()), "done")
    assert {n.token for n in cloud.ready()} == {done.action.action_id}
    assert cloud.machines() == 2


def test_a_zone_out_of_capacity(cloud: Cloud) -> None:
    cloud.short(True)
    ctx = cloud.context()
    records = cloud.passes(ctx, cores(cloud, 2), minutes=4)
    (first, *_) = launches(records, "failed")
    assert "InsufficientCapacityError" in first.detail
    cloud.clock.sleep(120)
    assert cloud.machines() == 0, "nobody waits for them any more"
    cloud.short(False)
    cloud.clock.sleep(600)
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 2, "two nodes")


def test_a_node_that_never_becomes_ready(cloud: Cloud) -> None:
    ctx = cloud.context()
    cloud.one_pass(ctx, cores(cloud, 1))
    cloud.clock.sleep(30)
    (node_id,) = cloud.nodes()
    cloud.silence(node_id)
    records = cloud.passes(ctx, cores(cloud, 1), minutes=12)
    assert node_id not in cloud.nodes()
    (ended,) = [r for r in records if r.action.kind is ActionKind.TERMINATE and node_id in r.action.node_ids]
    assert ended.result == "done"
    assert "orphan: silent for" in ended.action.reason
    assert len(cloud.ready()) == 1, "one came in its place, and no more"
    assert cloud.machines() == 1


def test_a_dataset_whose_checksum_is_wrong(cloud: Cloud) -> None:
    cloud.spoil(True)
    ctx = cloud.context()
    cloud.one_pass(ctx, cores(cloud, 1))
    (bad,) = launches(list(cloud.ports.audit.records()), "done")
    records = cloud.passes(ctx, cores(cloud, 1), minutes=6)
    cloud.spoil(False)
    ended = [r for r in records if r.action.kind is ActionKind.TERMINATE and r.result == "done"]
    assert ended
    assert all("checksum" in r.action.reason for r in ended)
    assert bad.node_ids[0] in {i for r in ended for i in r.action.node_ids}
    assert not [n for n in cloud.nodes().values() if n.phase is Phase.READY and n.node_id in bad.node_ids]
    assert cloud.machines() <= 2


def test_credentials_that_expire_mid_run(cloud: Cloud) -> None:
    busy, _ = two_ready(cloud)
    provider = cloud.provider()
    asked = provider.launch

    def too_late(request: object) -> tuple[str, ...]:
        cloud.expire(True)
        return asked(request)

    provider.launch = too_late
    (record,) = [r for r in cloud.one_pass(cloud.context(provider), cores(cloud, 4)).records if r.result == "failed"]
    assert "NotAuthorisedError" in record.detail
    assert "renew" in record.detail or "expired" in record.detail, "the record says why nothing came of it"
    ctx = cloud.context()
    result = cloud.one_pass(ctx, cores(cloud, 4))
    assert not result.observation.complete
    assert any("renew" in p or "expired" in p for p in result.observation.problems), result.observation.problems
    assert not [r for r in result.records if r.result == "done"]
    cloud.expire(False)
    assert still_works(cloud, busy)
    assert cloud.machines() == 2
    cloud.until(ctx, cores(cloud, 2), lambda: len(cloud.ready()) == 3, "it to go on: one works, two are ready")


def test_a_node_deleted_by_hand(cloud: Cloud) -> None:
    busy, idle = two_ready(cloud)
    cloud.delete_by_hand(idle.node_id)
    ctx = cloud.context()
    records = cloud.passes(ctx, cores(cloud, 1), minutes=6)
    assert idle.node_id not in cloud.nodes()
    (told,) = [r for r in records if idle.node_id in r.node_ids]
    assert "nothing here ended it: deleted by hand, or taken by the cloud" in told.action.reason
    assert still_works(cloud, busy)
    assert cloud.machines() == 2
    assert len(cloud.ready()) == 2


def test_a_clock_that_is_wrong(cloud: Cloud) -> None:
    _, idle = two_ready(cloud)
    cloud.skew(idle.node_id, 7200)
    cloud.clock.sleep(30)
    records = cloud.passes(cloud.context(), minutes=15)
    assert not [r for r in records if idle.node_id in r.action.node_ids]
    node = cloud.nodes()[idle.node_id]
    assert node.is_busy, "nobody can say what runs there, so nothing is done to it"
    assert "clock is wrong" in node.reason
    cloud.skew(idle.node_id, 0)
    cloud.clock.sleep(30)


def test_a_listing_that_lags_by_half_a_minute(cloud: Cloud) -> None:
    cloud.lag(30)
    ctx = cloud.context()
    cloud.passes(ctx, cores(cloud, 2), minutes=4, every_s=10)
    assert cloud.machines() == 2
    assert [r.action.count for r in launches(list(cloud.ports.audit.records()), "done")] == [2]
    cloud.passes(ctx, minutes=20)
    cloud.lag(0)
    assert cloud.machines() <= 2


def test_the_daily_cap_is_reached_while_a_task_runs(cloud: Cloud) -> None:
    busy, _ = two_ready(cloud)
    price = cloud.pool.groups[0].offerings[0].usd_per_hour
    cloud.pool = replace(cloud.pool, guards=Guards(max_nodes=8, max_usd_per_day=price))
    cloud.world.pool = cloud.pool
    ctx = cloud.context()
    records = cloud.passes(ctx, cores(cloud, 6), minutes=60, every_s=300)
    guarded = [r for r in records if r.result == "guarded"]
    assert {r.detail.split(" ")[0] for r in guarded} == {"max_usd_per_day"}
    later = [r for r in launches(records, "done") if r.at > records[0].at + timedelta(minutes=40)]
    assert later == [], "the cap stops launches"
    assert still_works(cloud, busy), "and ends nothing that works"


def test_a_group_that_makes_another_type_than_it_names(cloud: Cloud) -> None:
    """Somebody changed what it launches: its nodes hold nothing for us, and no number of them would be enough."""
    (group,) = cloud.pool.groups
    made = group.offerings[0].instance_type
    other = tuple(replace(o, instance_type=f"not-{o.instance_type}") for o in group.offerings)
    cloud.pool = replace(cloud.pool, groups=(replace(group, offerings=other),))
    cloud.world.pool = cloud.pool
    records = cloud.passes(cloud.context(), cores(cloud, 2), minutes=90, every_s=300)
    assert sum(r.action.count for r in launches(records, "done")) <= 2 + 1, "what was wanted, and one an hour to see"
    told = {r.detail for r in records if r.result == "guarded"}
    assert any(f"{group.name} makes {made}, which none of its offerings names" in t for t in told), told
