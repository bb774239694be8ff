"""`pool recall` and `pool adopt` on an account that did things before preprov came: day 0 has lead times."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from preprov.testing.fake_aws_groups import Activity
from tests.awsworld import REGION, T0, ZONE, AwsWorld, aws_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schemas"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AwsWorld]:
    with aws_world(monkeypatch, warm="Stopped") as made:
        for i in range(12):
            end = T0.timestamp() - 3600 * i
            text = f"Launching a new EC2 instance: i-{i:017x}"
            made.cloud.groups.activities("nodes").append(Activity(text, "", ZONE, end - 150, end, "Successful"))
        (tmp_path / "preprov.toml").write_text(f"""
[[pool]]
name = "batch"
[[pool.group]]
name = "g"
provider = "aws"
options = {{ region = "{REGION}", endpoint_url = "{made.cloud.url}", asg = "nodes" }}
offering = [{{ type = "m5.large", zone = "{ZONE}", cpu = 2, memory = 8, usd_per_hour = 0.1 }}]
""")
        yield made


def test_what_was_on_record_is_learnt_from_and_said(world: AwsWorld, preprov: Callable[..., Any]) -> None:
    told = preprov("pool", "recall", "batch", "--last", "5000d", "-o", "json")
    assert told.code == 0, told.out + told.err
    jsonschema.validate(told.json, json.loads((SCHEMAS / "pool-recall.json").read_text()))
    (group,) = told.json["groups"]
    assert (group["found"], group["new"], group["known"], group["error"]) == (12, 12, 0, "")
    leads = preprov("pool", "leads", "batch", "--at", T0.isoformat(), "-o", "json").json["leads"]
    cold = next(x for x in leads if x["from"] == "cold")
    assert cold["observations"] == 12
    assert cold["quantiles_s"]["p50"] == pytest.approx(150, rel=0.1)
    again = preprov("pool", "recall", "batch", "--last", "5000d")
    assert "12 warmings on record since" in again.out
    assert "0 of them new" in again.out


def test_adopting_recalls_too_and_an_account_that_refuses_is_adopted_all_the_same(
    world: AwsWorld, preprov: Callable[..., Any]
) -> None:
    told = preprov("pool", "adopt", "batch", "-o", "json")
    assert told.code == 0, told.out + told.err
    jsonschema.validate(told.json, json.loads((SCHEMAS / "pool-adopt.json").read_text()))
    assert [r["group"] for r in told.json["recalled"]] == ["g"]
    world.cloud.faults.denied = {"autoscaling:DescribeScalingActivities"}
    told = preprov("pool", "adopt", "batch", "-o", "json")
    assert told.code == 0, told.out + told.err
    assert "DescribeScalingActivities" in told.json["recalled"][0]["error"]
    assert told.json["groups"][0]["group"] == "g"
    assert preprov("pool", "recall", "batch").code == 1
