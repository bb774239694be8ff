"""Counts through Terraform are recorded before the first of them is written, and applied again as they were found."""

import json
from typing import Any

import pytest

from preprov.control.adopting import GivenBack, adopt, release, unrecorded
from preprov.control.context import Context
from preprov.model.errors import PoolError
from preprov.model.offerings import Standby
from preprov.model.pools import Pool
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from tests.unit.terraform.conftest import T0, Root

FOUND = {"running": 1, "standby": 1}


@pytest.fixture
def found(root: Root) -> Root:
    """One in service and one in standby, as their owner applied it."""
    (root.folder / "state.json").write_text(json.dumps({"cheap": FOUND}))
    return root


def controller(root: Root, pool: Pool | None = None) -> Context:
    pool = pool or root.pool
    return Context(
        ports=memory_ports(),
        providers={"terraform": root.provider},
        schedulers={},
        prices=TablePriceBook.from_pools([pool]),
        clock=VirtualClock(T0),
        pools={pool.name: pool},
    )


def raised(root: Root, pool: Pool | None = None) -> None:
    """Three in service and three in standby."""
    root.provider.launch(root.request(2, pool=pool))
    root.provider.set_targets(pool or root.pool, "cheap", {Standby.STOPPED: 3})


def given_back(ctx: Context) -> dict[str, GivenBack]:
    return {b.group: b for b in release(ctx, ctx.pool("nightly"))}


def counts(root: Root) -> Any:
    return root.vendor.counts().get("cheap")


def test_released_the_counts_are_applied_as_they_were_found(found: Root) -> None:
    ctx = controller(found)
    assert unrecorded(ctx, found.pool) == {}
    held = ctx.ports.adoptions.in_force("nightly")
    assert held["cheap"].baseline == FOUND
    assert held["plain"].baseline == {"running": 0, "standby": 0}
    raised(found)
    assert counts(found) == {"running": 3, "standby": 3}
    back = given_back(ctx)
    assert all(b.whole for b in back.values())
    assert back["cheap"].said == ("in service 3 -> 1, in standby 3 -> 1, applied",)
    assert back["plain"].said == ()
    assert counts(found) == FOUND
    assert ctx.ports.adoptions.in_force("nightly") == {}


def test_no_node_that_works_is_ended_by_it(found: Root) -> None:
    """Terraform cannot name the nodes that go, so none does; those in standby run nothing."""
    ctx = controller(found)
    adopt(ctx, found.pool)
    raised(found)
    found.vendor.busy.add("cheap-r2")
    cheap = given_back(ctx)["cheap"]
    assert not cheap.whole
    assert cheap.differs == {"running": (1, 3)}
    assert "cheap-r2 still work" in cheap.said[-1]
    assert counts(found) == {"running": 3, "standby": 1}
    assert {"cheap-r0", "cheap-r1", "cheap-r2"} <= set(found.vendor.drained), "none begins anything more"
    assert list(ctx.ports.adoptions.in_force("nightly")) == ["cheap"]
    found.vendor.busy.clear()
    assert given_back(ctx)["cheap"].whole
    assert counts(found) == FOUND


def test_a_node_that_work_is_promised_to_stays(found: Root) -> None:
    raised(found)
    said = found.provider.restore(found.pool, "cheap", FOUND, held=["cheap-r0"])
    assert "cheap-r0 still work" in said[-1]
    assert counts(found)["running"] == 3


def test_where_a_pull_request_applies_them_they_are_proposed(found: Root) -> None:
    pool = found.with_options(by="pull-request")
    ctx = controller(found, pool)
    adopt(ctx, pool)
    raised(found, pool)
    before = counts(found)
    cheap = given_back(ctx)["cheap"]
    assert cheap.whole
    assert "it holds once that is merged and applied" in cheap.said[0]
    assert json.loads(found.file.read_text())["preprov_counts"]["cheap"] == FOUND
    assert (counts(found), found.applied) == (before, 0), "nothing is applied by preprov"


@pytest.mark.parametrize("fault", [{"locked": True}, {"also_deletes": ["plain"]}])
def test_what_could_not_be_applied_is_told_and_stays_adopted(found: Root, fault: dict[str, Any]) -> None:
    ctx = controller(found)
    adopt(ctx, found.pool)
    raised(found)
    found.faults(**fault)
    assert given_back(ctx)["cheap"].error
    assert "cheap" in ctx.ports.adoptions.in_force("nightly")
    assert counts(found) == {"running": 3, "standby": 3}
    found.faults()
    assert given_back(ctx)["cheap"].whole
    assert counts(found) == FOUND


def test_what_was_not_recorded_is_left_alone(found: Root) -> None:
    raised(found)
    assert found.provider.restore(found.pool, "cheap", {}) == ()
    assert counts(found) == {"running": 3, "standby": 3}


def test_counts_that_are_preprovs_are_not_recorded_as_terraforms(root: Root) -> None:
    root.declare(counts_owner="preprov")
    with pytest.raises(PoolError, match="preprov's, not Terraform's"):
        root.provider.baseline(root.pool, "cheap")
    assert "cheap" in unrecorded(controller(root), root.pool)
