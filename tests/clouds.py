"""The three fake clouds as one: a pool of each under the real control code, and what can go wrong there by one name."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from preprov.contracts import Ports
from preprov.control import passes
from preprov.control.context import Context
from preprov.control.passes import PassResult, pool_pass
from preprov.model.demand import DemandCurve
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Guards, Mode, Pool
from preprov.model.resources import ZERO, Resources
from preprov.model.time import floor_to
from preprov.model.work import DatasetRef
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.testing.fake_gcp_parts import counts_of
from tests.awsworld import AwsWorld, aws_world
from tests.azureworld import SIZE, AzureWorld, azure_world
from tests.gcpworld import GcpWorld, gcp_world

CLOUDS = ("aws", "gcp", "azure")
DATASET = DatasetRef("s3://data/a", "v1", "0" * 64)


@dataclass
class Cloud:
    """One of them. What differs is in the subclasses."""

    world: Any
    pool: Pool
    ports: Ports = field(default_factory=memory_ports)
    actor: str = "controller"

    writes_notes = ""
    """The right to write notes on machines that are there; "" = they are made with them."""

    @property
    def notes_later(self) -> bool:
        """True if a machine is there before our notes are on it."""
        return bool(self.writes_notes)

    @property
    def clock(self) -> VirtualClock:
        clock: VirtualClock = self.world.clock
        return clock

    # ---- a controller

    def context(self, provider: object = None) -> Context:
        """A controller over the store, as new as after a restart."""
        name = self.pool.groups[0].provider
        return Context(
            ports=self.ports,
            providers={name: provider or self.provider()},  # type: ignore[dict-item]
            schedulers={},
            prices=TablePriceBook.from_pools([self.pool]),
            clock=self.clock,
            pools={self.pool.name: self.pool},
            actor=self.actor,
            n_samples=20,
        )

    def provider(self) -> Any:
        return self.world.again()

    def one_pass(self, ctx: Context, cpu: float = 0.0) -> PassResult:
        """A pass while so many cores of work wait for nodes."""
        waiting = Resources(cpu=cpu, memory=cpu) if cpu else ZERO
        return pool_pass(ctx, self.pool, serve=False, waiting=waiting)

    def passes(self, ctx: Context, cpu: float = 0.0, *, minutes: float = 10, every_s: float = 60) -> list[ActionRecord]:
        """Passes over some time; returns what was recorded in them."""
        until = self.clock.now() + timedelta(minutes=minutes)
        since = self.clock.now()
        while self.clock.now() < until:
            self.one_pass(ctx, cpu)
            self.clock.sleep(every_s)
        return [r for r in self.ports.audit.records(self.pool.name) if r.at >= since]

    def until(self, ctx: Context, cpu: float, look: Callable[[], bool], what: str) -> None:
        """Passes until something is so."""
        for _ in range(60):
            self.one_pass(ctx, cpu)
            if look():
                return
            self.clock.sleep(30)
        raise AssertionError(f"waited in vain for {what}: {self.nodes()}")

    # ---- what is there

    def nodes(self) -> Mapping[str, Node]:
        return {n.node_id: n for n in self.provider().observe(self.pool).nodes}

    def ready(self) -> list[Node]:
        return [n for n in self.nodes().values() if n.phase is Phase.READY]

    def machines(self) -> int:
        """Machines that exist and are paid for, whatever a listing says."""
        raise NotImplementedError

    def settings(self) -> Mapping[str, object]:
        """Everything the cloud shows of the group, less what it measures."""
        raise NotImplementedError

    # ---- what can go wrong

    def stranger(self) -> str:
        """Somebody else begins to write the count; returns a word of its name."""
        raise NotImplementedError

    def short(self, on: bool) -> None:
        """There are no machines."""
        raise NotImplementedError

    @contextmanager
    def throttled(self, calls_per_s: int) -> Iterator[None]:
        """More calls are refused; the SDK's pauses between its attempts pass on the clock."""
        with pauses_on(self.clock):
            self.throttle(calls_per_s)
            try:
                yield
            finally:
                self.throttle(None)

    def throttle(self, calls_per_s: int | None) -> None:
        """More calls are refused."""
        self.world.fake.faults.calls_per_s = calls_per_s

    @contextmanager
    def no_notes(self) -> Iterator[None]:
        """Notes on machines that are there cannot be written."""
        denied = self.denied()
        denied.add(self.writes_notes)
        try:
            yield
        finally:
            denied.remove(self.writes_notes)

    def denied(self) -> set[str]:
        """Rights that the credentials lack."""
        denied: set[str] = self.world.fake.faults.denied
        return denied

    def expire(self, on: bool) -> None:
        """The credentials are no longer good."""
        self.world.fake.faults.expired = on

    def lag(self, seconds: float) -> None:
        """Listings are that old."""
        self.world.fake.faults.lag_s = seconds

    def spoil(self, on: bool) -> None:
        """Checks of what is preloaded fail on new machines."""
        self.world.fake.spoiled = on

    def silence(self, node_id: str) -> None:
        """Its agent never says anything."""
        self.world.fake.machine(node_id).agent = None

    def skew(self, node_id: str, seconds: float) -> None:
        """Its clock is wrong."""
        self.world.fake.machine(node_id).agent.skew_s = seconds

    def delete_by_hand(self, node_id: str) -> None:
        """Somebody ends it in the console."""
        raise NotImplementedError


class Aws(Cloud):
    """An Auto Scaling group with a warm pool of stopped nodes."""

    world: AwsWorld
    writes_notes = "ec2:CreateTags"

    def denied(self) -> set[str]:
        denied: set[str] = self.world.cloud.faults.denied
        return denied

    def machines(self) -> int:
        with self.world.cloud.acting():
            return sum(n.state not in ("shutting-down", "terminated") for n in self.world.cloud.nodes.values())

    def settings(self) -> Mapping[str, object]:
        api = self.world.api("autoscaling")
        group = self.world.group()
        for measured in ("Instances", "WarmPoolSize"):
            group.pop(measured, None)
        actions = api.describe_scheduled_actions(AutoScalingGroupName="nodes")["ScheduledUpdateGroupActions"]
        return {
            **group,
            "actions": actions,
            "hooks": api.describe_lifecycle_hooks(AutoScalingGroupName="nodes")["LifecycleHooks"],
        }

    def stranger(self) -> str:
        self.world.api("autoscaling").put_scaling_policy(
            AutoScalingGroupName="nodes",
            PolicyName="cpu",
            PolicyType="SimpleScaling",
            AdjustmentType="ChangeInCapacity",
            ScalingAdjustment=1,
        )
        return "scaling policy cpu"

    def short(self, on: bool) -> None:
        self.world.cloud.faults.short = {("*", "*")} if on else set()

    def throttle(self, calls_per_s: int | None) -> None:
        self.world.cloud.faults.calls_per_second = calls_per_s

    def expire(self, on: bool) -> None:
        self.world.cloud.faults.expired = on

    def lag(self, seconds: float) -> None:
        self.world.cloud.faults.listing_lag_s = seconds

    def spoil(self, on: bool) -> None:
        self.world.cloud.faults.spoiled = {DATASET.key} if on else set()

    def silence(self, node_id: str) -> None:
        self.world.cloud.nodes[node_id].mute = True

    def skew(self, node_id: str, seconds: float) -> None:
        self.world.cloud.nodes[node_id].skew_s = seconds

    def delete_by_hand(self, node_id: str) -> None:
        self.world.api("ec2").terminate_instances(InstanceIds=[node_id])


class Gcp(Cloud):
    """A managed instance group."""

    world: GcpWorld

    def machines(self) -> int:
        now = self.clock.now()
        return sum(m.status(now) != "GONE" for m in self.world.mig.members.values())

    def settings(self) -> Mapping[str, object]:
        g = self.world.mig
        shape = (g.base, g.machine_type, g.spot, g.guest_attributes, g.template or g.name)
        asked = {n: r.state for n, r in g.requests.items() if r.state == "ACCEPTED"}
        return {
            **counts_of(g),
            "shape": shape,
            "standby": (g.standby_mode, g.initial_delay_s),
            "autoscaler": g.autoscaler,
            "resize_requests": asked,
        }

    def stranger(self) -> str:
        self.world.mig.autoscaler = "https://compute/projects/acme/zones/z/autoscalers/cpu"
        return "autoscaler cpu"

    def short(self, on: bool) -> None:
        self.world.fake.faults.short = {"n2-standard-4"} if on else set()

    def delete_by_hand(self, node_id: str) -> None:
        del self.world.mig.members[node_id]


class Azure(Cloud):
    """A scale set with a standby pool of deallocated machines."""

    world: AzureWorld
    writes_notes = "Microsoft.Compute/virtualMachines/write"

    def machines(self) -> int:
        now = self.clock.now()
        return sum(m.status(now) != "gone" for m in self.world.vmss.members.values())

    def settings(self) -> Mapping[str, object]:
        g = self.world.vmss
        pool = g.standby
        standby = (pool.most, pool.least, pool.state) if pool else None
        return {"capacity": g.capacity, "tags": dict(g.tags), "standby": standby, "size": g.size}

    def stranger(self) -> str:
        self.world.vmss.autoscale = "cpu"
        return "autoscale setting cpu"

    def short(self, on: bool) -> None:
        self.world.fake.faults.short = {SIZE} if on else set()

    def delete_by_hand(self, node_id: str) -> None:
        del self.world.vmss.members[node_id]
        self.world.vmss.capacity -= 1


def planned(pool: Pool, **more: Any) -> Pool:
    """A pool of a world, ready to be planned: small steps, mode full."""
    group = pool.groups[0]
    lead = {Standby.COLD: _LEAD, Standby.STOPPED: _LEAD, Standby.HIBERNATED: _LEAD}
    group = replace(group, max_nodes=8, lead=lead, standby_usd_per_hour={Standby.STOPPED: 0.001})
    changed: dict[str, Any] = {
        "groups": (group,),
        "mode": Mode.FULL,
        "step_seconds": 60,
        "horizon_s": 3600,
        "guards": Guards(max_nodes=8),
        "binding": ("cpu",),
        "node_ttl_s": 300.0,
        **more,
    }
    return replace(pool, **changed)


_LEAD = LeadTime(90.0, 120.0)


_FAR = {Standby.COLD: LeadTime(240, 480), Standby.STOPPED: LeadTime(20, 40), Standby.HIBERNATED: LeadTime(10, 20)}


def uncertain(pool: Pool) -> Pool:
    """Waiting costs some, a cold node takes long, a stopped one comes at once."""
    groups = tuple(replace(g, lead=_FAR) for g in pool.groups)
    objective = replace(pool.objective, shortage_usd_per_core_hour=2.0)
    return replace(pool, groups=groups, objective=objective)


def in_bursts(monkeypatch: pytest.MonkeyPatch, nodes: int) -> None:
    """A few minutes of so many nodes' work within the hour, and no future agrees with another on when."""

    def demand(ctx: Context, pool: Pool) -> tuple[str, DemandCurve]:
        start = floor_to(ctx.clock.now(), pool.step_seconds)
        offering, steps = pool.groups[0].offerings[0], pool.horizon_s // pool.step_seconds
        samples = np.zeros((60, steps, 5), dtype=np.float32)
        for i, begin in enumerate(np.random.default_rng(0).integers(1, steps - 4, len(samples))):
            samples[i, begin : begin + 4, 0] = nodes * offering.allocatable.cpu
        return "bursts", DemandCurve(pool.name, start, start, pool.step_seconds, samples)

    monkeypatch.setattr(passes, "current_demand", demand)


@contextmanager
def pauses_on(clock: VirtualClock) -> Iterator[None]:
    """What sleeps in this process sleeps on that clock: an SDK, between its attempts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", clock.sleep)
        yield


@contextmanager
def cloud_of(name: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[Cloud]:
    """The cloud of that name with its pool."""
    if name == "aws":
        with aws_world(monkeypatch, warm="Stopped") as aws:
            aws.pool = planned(aws.with_options(attempts=2), **more)
            yield Aws(aws, aws.pool)
    elif name == "gcp":
        with gcp_world() as gcp:
            gcp.pool = planned(gcp.pool, **more)
            yield Gcp(gcp, gcp.pool)
    else:
        with azure_world("Deallocated") as azure:
            azure.pool = planned(azure.pool, **more)
            yield Azure(azure, azure.pool)


def launches(records: list[ActionRecord], result: str = "") -> list[ActionRecord]:
    """Rows of launches, of one result."""
    return [r for r in records if r.action.kind is ActionKind.LAUNCH and result in ("", r.result)]
