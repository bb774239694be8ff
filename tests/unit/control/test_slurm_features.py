"""Jobs of Slurm with constraints: their nodes are those of the groups that offer the features."""

from pathlib import Path

import pytest

from preprov.control.lanes import fits_nowhere
from preprov.control.passes import make_plan_now
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.offerings import LeadTime, Offering, Standby
from preprov.model.pools import Group, Guards
from preprov.model.resources import Resources
from preprov.slurm.commands import SlurmCommands
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_slurm import FakeSlurm
from tests.unit.control.world import World, make_pool, make_world

LEADS = {Standby.COLD: LeadTime(60, 90)}
NODE = Offering("m", Resources(cpu=4, memory=16), usd_per_hour=0.2)


@pytest.fixture
def world() -> World:
    groups = (
        Group("plain", "sim", (NODE,), lead=LEADS, options={"features": ()}),
        Group("intel", "sim", (NODE,), lead=LEADS, options={"features": ("intel", "ssd")}),
    )
    return make_world(make_pool(groups=groups, guards=Guards(max_nodes=20)))


def read(world: World, slurm: FakeSlurm) -> None:
    reader = SlurmReader(SlurmCommands(slurm.run), RequestBudget(1e6, world.clock))
    settings = SlurmSettings("cluster", history_s=600.0)
    sync(world.ctx, SlurmSource(settings, reader, world.clock, wall=slurm.now), Router(default="p"))


@pytest.mark.parametrize("newer", [False, True], ids=["22.05", "24.05"])
def test_demand_goes_to_the_groups_that_offer_the_feature(world: World, tmp_path: Path, newer: bool) -> None:
    slurm = FakeSlurm([], tmp_path, newer=newer)
    for i in range(6):
        slurm.add(name=f"plain{i}", submit=slurm.now(), cpus=4, limit_min=20)
    for i in range(2):
        slurm.add(name=f"fast{i}", submit=slurm.now(), cpus=4, limit_min=20, features="intel&(ssd|nvme)")
    read(world, slurm)
    plan, _ = make_plan_now(world.ctx, world.pool)
    raised = {a.group: a.count for a in plan.actions if a.kind.raises}
    assert raised["intel"] == 2
    assert raised["plain"] == 6
    assert fits_nowhere(world.ctx, world.pool) == ()


def test_a_constraint_that_no_group_meets_is_said(world: World, tmp_path: Path) -> None:
    slurm = FakeSlurm([], tmp_path, newer=True)
    slurm.add(name="train", submit=slurm.now(), features="gpu")
    slurm.add(name="fit", submit=slurm.now(), features="ssd")
    read(world, slurm)
    (one,) = fits_nowhere(world.ctx, world.pool)
    assert one.task_id == "train"
    assert one.why == (
        "must be on a node with constraint=gpu; there is m in any zone of group plain without features; "
        "m in any zone of group intel with intel, ssd"
    )


def test_where_all_work_wants_a_feature_nodes_without_it_stay_away(world: World, tmp_path: Path) -> None:
    slurm = FakeSlurm([], tmp_path, newer=True)
    for i in range(3):
        slurm.add(name=f"fit{i}", submit=slurm.now(), cpus=4, limit_min=20, features="ssd")
    read(world, slurm)
    plan, _ = make_plan_now(world.ctx, world.pool)
    assert {a.group: a.count for a in plan.actions if a.kind.raises} == {"intel": 3}
