"""A fake AWS account with a pool of it, for tests; the provider speaks to it through the real SDK over HTTP."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from preprov.contracts import LaunchRequest
from preprov.model.errors import PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Offering, Preload, Standby
from preprov.model.pools import Group, Mode, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef
from preprov.pools.aws.clients import Clients
from preprov.pools.aws.options import Place
from preprov.pools.aws.provider import AwsProvider
from preprov.sim.clock import VirtualClock
from preprov.testing.agents import Agents
from preprov.testing.fake_aws import FakeAws
from tests.cloudtasks import CloudTasks

T0 = datetime(2025, 11, 3, 1, 0, tzinfo=UTC)
REGION = "us-east-1"
ZONE = "us-east-1a"
TYPE = "m5.large"
HOOK = "preprov-verified"
_CLIENTS = Clients()  # making one is slow; each fake has an address of its own
ALL = frozenset({Standby.RUNNING, Standby.HIBERNATED, Standby.STOPPED})


class AwsWorld:
    """Groups of instant fleets, or, with `warm`, an Auto Scaling group whose warm pool keeps nodes in that state."""

    def __init__(
        self, cloud: FakeAws, clock: VirtualClock, *, warm: str = "", hook: bool = True, home: Path | None = None
    ) -> None:
        self.cloud, self.clock, self.warm = cloud, clock, warm
        self.tended: Pool | None = None
        self.offering = Offering(TYPE, Resources(cpu=2, memory=8), ZONE, usd_per_hour=0.1)
        self.preload = Preload((ImageRef("s3://images/etl", "sha256:" + "1" * 64),), (DatasetRef("s3://data/a", "v1"),))
        self._make_template()
        options: dict[str, object] = {"region": REGION, "endpoint_url": cloud.url, "fence": 20.0}
        if warm:
            self._make_asg("nodes", warm, hook)
            options["asg"] = "nodes"
        else:
            subnets = {s["AvailabilityZone"]: s["SubnetId"] for s in self.api("ec2").describe_subnets()["Subnets"]}
            options |= {"launch_template": "nodes", "subnets": subnets}
        kept = {"": ALL, "Stopped": {Standby.STOPPED}}.get(warm, {Standby.HIBERNATED})
        group = Group("g", "aws", (self.offering,), standby_states=frozenset(kept), max_nodes=8, options=options)
        self.pool = Pool("batch", (group,), mode=Mode.FULL)
        self.tasks = CloudTasks("aws", home, clock, self.pool, cloud.agents.run) if home else None
        self.provider = self.again()
        if self.tasks:
            self.preload = self.tasks.preload
            self.scheduler = self.tasks.scheduler(self.provider)
        cloud.calls.clear()

    def _make_template(self, name: str = "nodes", type_: str = TYPE) -> None:
        tags = {"InstanceMetadataTags": "enabled"}
        data = {"ImageId": "ami-12c6146b", "InstanceType": type_, "MetadataOptions": tags}
        self.api("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)

    def _make_asg(self, name: str, warm: str, hook: bool) -> None:
        api = self.api("autoscaling")
        api.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=20,
            DesiredCapacity=0,
            LaunchTemplate={"LaunchTemplateName": name, "Version": "$Default"},
            AvailabilityZones=[ZONE],
            NewInstancesProtectedFromScaleIn=False,
            Tags=[
                {
                    "Key": k,
                    "Value": v,
                    "PropagateAtLaunch": True,
                    "ResourceId": name,
                    "ResourceType": "auto-scaling-group",
                }
                for k, v in {"preprov:pool": "batch", "preprov:group": "g" if name == "nodes" else name}.items()
            ],
        )
        if hook:
            api.put_lifecycle_hook(
                AutoScalingGroupName=name,
                LifecycleHookName=HOOK,
                LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
                HeartbeatTimeout=900,
                DefaultResult="ABANDON",
            )
        api.put_warm_pool(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxGroupPreparedCapacity=0,
            PoolState=warm,
            InstanceReusePolicy={"ReuseOnScaleIn": True},
        )

    def api(self, service: str) -> Any:
        return _CLIENTS.get(service, Place(REGION, self.cloud.url))

    # ---- for the suite

    def again(self) -> AwsProvider:
        return AwsProvider(self.clock, _CLIENTS, self.tasks.greeting if self.tasks else dict)

    def until(self, look: Callable[[], bool], what: str) -> None:
        for _ in range(200):
            self.provider.tend(self.tended or self.pool)
            if look():
                return
            self.clock.sleep(10 if self.tasks else 20)
        raise AssertionError(f"waited in vain for {what}")

    def occupy(self, node: Node) -> str:
        if self.tasks:
            return self.occupy_through_agent(node)
        with self.cloud.acting():
            if self.warm and self.cloud.groups.lifecycle(node.node_id) != "InService":
                raise PoolError("it is not in service", where=node.node_id)
            self.cloud.nodes[node.node_id].run(f"run-{node.node_id}/t#0", self.cloud.now)
        return f"run-{node.node_id}/t#0"

    def occupy_through_agent(self, node: Node) -> str:
        """A node that a group launched by itself learns by a note who we are."""
        assert self.tasks is not None
        if node.phase is Phase.READY and not node.address.startswith("tls://"):
            with pytest.raises(PoolError):
                self.tasks.occupy(self.scheduler, node)
            self.cloud.agents.run()
            node = self.nodes()[node.node_id]
        return self.tasks.occupy(self.scheduler, node)

    def free(self, node: Node) -> None:
        if self.tasks:
            return self.tasks.free(self.scheduler, self.nodes()[node.node_id])
        with self.cloud.acting():
            self.cloud.nodes[node.node_id].tasks.clear()

    def spoiled(self) -> Preload:
        if self.tasks:
            return self.tasks.spoiled()
        self.cloud.faults.spoiled = {self.preload.datasets[0].key}
        return self.preload

    def exhausted(self) -> Pool:
        self.cloud.faults.short = {("*", "*")}
        return self.pool

    def baking(self) -> Pool | None:
        return None if self.tasks else self.pool

    def tiers(self) -> Pool:
        """Two offerings in one group of fleets; or two Auto Scaling groups, whose warm pools keep different states."""
        group = self.pool.groups[0]
        large = Offering("c5.xlarge", Resources(cpu=4, memory=8), ZONE, usd_per_hour=0.2)
        if not self.warm:
            return replace(self.pool, groups=(replace(group, offerings=(self.offering, large)),))
        other = "Hibernated" if self.warm == "Stopped" else "Stopped"
        self._make_template("large", "c5.xlarge")
        self._make_asg("large", other, hook=True)
        kept = frozenset({Standby.HIBERNATED if other == "Hibernated" else Standby.STOPPED})
        second = Group("large", "aws", (large,), kept, max_nodes=8, options={**group.options, "asg": "large"})
        self.tended = replace(self.pool, groups=(group, second))
        return self.tended

    # ---- for other tests

    def with_options(self, **options: object) -> Pool:
        group = replace(self.pool.groups[0], options={**self.pool.groups[0].options, **options})
        return replace(self.pool, groups=(group,))

    def request(self, n: int = 1, token: str = "token", **more: Any) -> LaunchRequest:
        offering = more.pop("offering", self.offering)
        return LaunchRequest(more.pop("pool", self.pool), "g", offering, n, token, Preload(), **more)

    def nodes(self, pool: Pool | None = None) -> Mapping[str, Node]:
        seen = self.provider.observe(pool or self.pool)
        assert seen.complete, seen.problems
        return {n.node_id: n for n in seen.nodes}

    def ready(self, n: int = 1, token: str = "token") -> list[Node]:
        ids = self.provider.launch(self.request(n, token))
        self.until(lambda: all(self.phase(i) is Phase.READY for i in ids), "nodes to be ready")
        return [self.nodes()[i] for i in ids]

    def phase(self, node_id: str) -> Phase | None:
        node = self.nodes().get(node_id)
        return node.phase if node else None

    def group(self) -> dict[str, Any]:
        found = self.api("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["nodes"])
        return dict(found["AutoScalingGroups"][0])


@contextmanager
def aws_world(monkeypatch: pytest.MonkeyPatch, **how: Any) -> Iterator[AwsWorld]:
    """With a home, the machines have real agents below it; with a clock, all happens on that one."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "fake")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    clock = how.pop("clock", None) or VirtualClock(T0)
    home: Path | None = how.get("home")
    with ExitStack() as stack:
        agents = stack.enter_context(Agents(home / "rack", {"port": 9411})) if home else None
        cloud = stack.enter_context(FakeAws(clock, region=REGION, agents=agents))
        yield AwsWorld(cloud, clock, **how)
