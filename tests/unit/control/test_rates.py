"""Calls of a pass, counted at the fakes, against what the vendors say that they take.

Published, for a principal and a region or subscription: EC2 refills 20 reads a second (Request throttling for the EC2
API), Compute Engine takes 1,500 reads a minute (API rate quotas), Azure Resource Manager refills 25 reads a second
(Throttling of Resource Manager requests). Each is checked for a hundred pools of ten nodes, looked at once a minute.
"""

from collections import Counter
from dataclasses import replace

import pytest

from preprov.model.pools import Guards
from tests.clouds import CLOUDS, Aws, Cloud, cloud_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
READS_A_MINUTE = {"aws": 20 * 60, "gcp": 1500, "azure": 25 * 60}
POOLS, NODES = 100, 10
_READS = ("Describe", "Get", "List", "Receive")


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
    if isinstance(cloud, Aws):
        return Counter("read" if c.action.startswith(_READS) else "write" for c in calls)
    return Counter("read" if m == "GET" or p.endswith("listManagedInstances") else "write" for m, p in calls)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_hundred_pools_a_minute_stay_within_the_published_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud_of(name, monkeypatch) as cloud:
        some = 10 if name == "gcp" else 2  # there a large group is listed, and a small one asked for by name
        few, more = steady(cloud, some), steady(cloud, some + 2)
    per_node = (more["read"] - few["read"]) / 2
    fixed = few["read"] - some * per_node
    rate = POOLS * (fixed + NODES * per_node)
    assert rate <= READS_A_MINUTE[name], f"{fixed:g} reads a pool and {per_node:g} a node"
    assert few["write"] + more["write"] <= 2, "nothing happens, so next to nothing is written"


def test_pools_of_one_region_share_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pools of instant fleets there are, EC2 is listed once for all that are looked at within 2 s."""
    from tests.awsworld import aws_world

    with aws_world(monkeypatch) as world:
        for number in range(50):
            assert world.provider.observe(replace(world.pool, name=f"pool-{number}")).complete
        assert [c.action for c in world.cloud.calls] == ["DescribeInstances"]
