"""Calls of a pass, counted at the fakes, against what the vendors say that they take.

Published, for an account, project or subscription and a region:

- EC2 (docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html): each reading action has a bucket of its own,
  refilled by 20 a second. Auto Scaling (…/autoscaling/ec2/APIReference/Welcome.html): one bucket for all its actions,
  without a figure, so its calls are counted and kept few.
- Compute Engine (cloud.google.com/compute/docs/api-rate-limits): 1,500 a minute in each group. Gets and lists are one;
  listManagedInstances and getGuestAttributes count as queries, which is another.
- Azure Resource Manager (learn.microsoft.com, Understand how Azure Resource Manager throttles requests): 25 reads a
  second. Behind it Microsoft.Compute (Compute throttling limits): 300 lists of machines and 8,000 gets a minute.

Each is checked for a hundred pools of ten nodes, looked at once a minute.
"""

from collections import Counter
from dataclasses import replace

import pytest

from preprov.model.pools import Guards
from tests.clouds import CLOUDS, Aws, Azure, Cloud, cloud_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
POOLS, NODES = 100, 10
A_MINUTE = {
    "aws": {"": 20 * 60, "Auto Scaling": 10 * POOLS},
    "gcp": {"reads": 1500, "queries": 1500},
    "azure": {"reads": 25 * 60, "lists of machines": 300, "gets of machines": 8000},
}
"""Cloud -> what is counted together -> the most of it in a minute; "" = each action by itself."""
_READS = ("Describe", "Get", "List", "Receive")
_SCALING = ("AutoScaling", "WarmPool", "LifecycleHooks", "ScheduledActions", "Policies")
_QUERIES = ("listManagedInstances", "getGuestAttributes")


def counted(cloud: Cloud) -> Counter[str]:
    """What was called since the last time, by what it counts towards; "write" for what changes something."""
    if isinstance(cloud, Aws):
        found = [c.action for c in cloud.world.cloud.calls]
        named = (
            "Auto Scaling" if a.endswith(_SCALING) or "AutoScaling" in a else a for a in found if a.startswith(_READS)
        )
        return Counter([*named, *("write" for a in found if not a.startswith(_READS))])
    out: Counter[str] = Counter()
    for method, path in cloud.world.fake.calls:
        end = path.rsplit("/", 1)[-1]
        if end in _QUERIES:
            out["queries"] += 1
        elif method != "GET":
            out["write"] += 1
        else:
            out["reads"] += 1
            if isinstance(cloud, Azure) and "virtualMachines" in path.split("/")[-2:]:
                out["lists of machines" if end == "virtualMachines" else "gets of machines"] += 1
    return out


def steady(cloud: Cloud, nodes: int) -> Counter[str]:
    """Calls of a pass in which nothing happens, with so many nodes that all are at work."""
    ctx = cloud.context()
    cores = cloud.pool.groups[0].offerings[0].capacity.cpu * nodes
    group = replace(cloud.pool.groups[0], max_nodes=nodes)
    cloud.pool = replace(cloud.pool, groups=(group,), guards=Guards(max_nodes=nodes))
    cloud.until(ctx, cores, lambda: len(cloud.ready()) == nodes, f"{nodes} nodes")
    for node in cloud.ready():
        if not node.is_busy:
            cloud.world.occupy(node)
    for _ in range(2):
        cloud.clock.sleep(60)
        calls = cloud.world.cloud.calls if isinstance(cloud, Aws) else cloud.world.fake.calls
        calls.clear()
        cloud.one_pass(ctx)
    return counted(cloud)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_hundred_pools_a_minute_stay_within_the_published_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud_of(name, monkeypatch) as cloud:
        some = 10 if name == "gcp" else 2  # there a large group is listed, and a small one asked for by name
        few, more = steady(cloud, some), steady(cloud, some + 2)
    for what in sorted((few.keys() | more.keys()) - {"write"}):
        per_node = (more[what] - few[what]) / 2
        fixed = few[what] - some * per_node
        rate = POOLS * (fixed + NODES * per_node)
        most = A_MINUTE[name].get(what, A_MINUTE[name].get("", 0))
        assert rate <= most, f"{what}: {fixed:g} a pool and {per_node:g} a node"
    assert few["write"] + more["write"] <= 2, "nothing happens, so next to nothing is written"


def test_pools_of_one_region_share_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pools of instant fleets there are, EC2 is listed once for all that are looked at within 2 s."""
    from tests.awsworld import aws_world

    with aws_world(monkeypatch) as world:
        for number in range(50):
            assert world.provider.observe(replace(world.pool, name=f"pool-{number}")).complete
        assert [c.action for c in world.cloud.calls] == ["DescribeInstances"]
