"""Lead times that Auto Scaling has on record, through the SDK over HTTP."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from preprov.contracts import Warmed
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.model.time import epoch, from_epoch
from preprov.testing.fake_aws_groups import Activity
from tests.awsworld import T0, TYPE, ZONE, AwsWorld, aws_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LONG_AGO = T0 - timedelta(days=42)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        yield made


def test_what_a_group_did_before_is_recalled_as_it_was(world: AwsWorld) -> None:
    node = world.ready()[0]
    found = world.provider.recall_leads(world.pool, "g", LONG_AGO)
    (one,) = found.warmed
    assert (one.node_id, one.zone, one.instance_type, one.came_from, one.failed) == (
        node.node_id,
        ZONE,
        TYPE,
        Standby.COLD,
        False,
    )
    (recorded,) = world.cloud.groups.activities("nodes")
    assert recorded.ended is not None
    assert one.seconds == pytest.approx(recorded.ended - recorded.began, abs=1e-3)
    assert one.seconds > 0
    assert "hooks included" in found.means
    assert world.provider.recall_leads(world.pool, "g", LONG_AGO) == found


def test_each_kind_of_record_says_what_it_can_and_what_it_cannot_is_counted(world: AwsWorld) -> None:
    at = epoch(T0) - 3600
    kept = world.cloud.groups.activities("nodes")

    def add(text: str, seconds: float | None, status: str = "Successful") -> None:
        ended = None if seconds is None else at + seconds
        kept.append(Activity(text, "", "us-east-1b", at, ended, status))

    new = "Launching a new EC2 instance"
    add(f"{new}: i-0000000000000000a", 90.0)
    add(f"{new} from warm pool: i-0000000000000000b", 20.0)
    add(f"{new}: i-0000000000000000c", 600.0, "Failed")
    add(f"{new} into warm pool: i-0000000000000000d", 70.0)
    add(f"{new}.  Status Reason: We currently do not have sufficient m5.large capacity", 3.0, "Failed")
    add("Terminating EC2 instance: i-0000000000000000e", 30.0)
    add(f"{new}: i-0000000000000000f", None, "InProgress")
    add(f"{new}: i-00000000000000010", 86_400.0)
    kept.append(Activity(f"{new}: i-00000000000000011", "", ZONE, epoch(LONG_AGO) - 1, epoch(LONG_AGO), "Successful"))
    found = world.provider.recall_leads(world.pool, "g", LONG_AGO)

    def warmed(last: str, seconds: float, **more: object) -> Warmed:
        return Warmed(f"i-0000000000000000{last}", from_epoch(at + seconds), seconds, "us-east-1b", TYPE, **more)  # type: ignore[arg-type]

    assert found.warmed == (
        warmed("a", 90.0),
        warmed("b", 20.0, came_from=Standby.STOPPED),
        warmed("c", 600.0, failed=True),
    )
    assert {why.split(":")[0]: n for why, n in found.left_out} == {
        "a launch into the warm pool": 1,
        "a launch that brought no instance": 1,
        "no launch": 1,
        "not over, or cancelled": 1,
        "a time that makes no sense": 1,
    }


def test_a_long_record_is_read_page_by_page_and_no_further_than_asked(world: AwsWorld) -> None:
    kept = world.cloud.groups.activities("nodes")
    for i in range(450):
        at = epoch(T0) - 60 * i
        kept.append(Activity(f"Launching a new EC2 instance: i-{i:017x}", "", ZONE, at - 30, at, "Successful"))
    found = world.provider.recall_leads(world.pool, "g", LONG_AGO)
    assert len({w.node_id for w in found.warmed}) == 450
    world.cloud.calls.clear()
    recent = world.provider.recall_leads(world.pool, "g", T0 - timedelta(minutes=50))
    assert len(recent.warmed) == 50
    assert sum(c.action == "DescribeScalingActivities" for c in world.cloud.calls) == 1


def test_a_fleet_has_no_record_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with aws_world(monkeypatch) as fleet:
        found = fleet.provider.recall_leads(fleet.pool, "g", LONG_AGO)
    assert found.warmed == ()
    assert "no record" in found.means


def test_a_refusal_is_a_pool_error(world: AwsWorld) -> None:
    world.cloud.faults.denied = {"autoscaling:DescribeScalingActivities"}
    with pytest.raises(PoolError):
        world.provider.recall_leads(world.pool, "g", LONG_AGO)
