"""A probe run on a real node of this machine: its own process, its own cost, and the task gets what it told."""

import sys
from dataclasses import replace
from datetime import timedelta

from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.control.probing import PROBE
from preprov.control.rightsizing import probes_of
from preprov.control.submitting import submit
from preprov.model.curved import Probing
from preprov.model.plans import ActionKind
from preprov.model.resources import Resources
from preprov.model.work import DagSpec, Probe, State, TaskSpec
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

ASKED = 1 / 16
USES = "import time; held = bytearray(96 << 20); time.sleep(0.5)"


def test_a_real_process_is_tried_on_a_sample_before_it_gets_its_room(world: LocalWorld) -> None:
    (node,) = world.ready()
    pool = replace(world.pool, probing=Probing())
    ctx = Context(
        ports=memory_ports(),
        providers={"local": world.provider},
        schedulers={"local": world.scheduler},
        prices=TablePriceBook.from_pools([pool]),
        clock=world.clock,
        pools={pool.name: pool},
        actor="test",
    )
    probe = Probe((sys.executable, "-c", USES), 30.0, Resources(cpu=0.5, memory=0.5))
    request = Resources(cpu=0.5, memory=ASKED)
    spec = TaskSpec("t", (sys.executable, "-c", "print('whole')"), request=request, runtime_hint_s=7200, probe=probe)
    begun = ctx.clock.now()
    (run,) = submit(ctx, (DagSpec("d", (spec,), pool=pool.name),))

    def over() -> bool:
        pool_pass(ctx, pool, plan=False)
        told = ctx.ports.work.run(run.run_id)
        return told is not None and told.state.is_final

    wait_until(over, what="the run to end")
    told = ctx.ports.work.run(run.run_id)
    assert told is not None
    assert told.state is State.SUCCEEDED
    rows = [r for r in ctx.ports.audit.records(pool.name) if r.action.kind is ActionKind.PROBE]
    assert [r.result for r in rows] == ["intended", "done"]
    numbers = rows[-1].action.numbers
    assert numbers["memory_probe"] > 96 / 1024
    assert numbers["memory_after"] >= numbers["memory_probe"] > numbers["memory_before"] == ASKED
    assert 0 < numbers["node_seconds"] < 30
    assert numbers["usd"] > 0
    assert list(world.scheduler.logs(f"{run.run_id}/t#0")) == ["whole"]
    assert world.task_folder(node, f"{run.run_id}/t{PROBE}#0").exists()
    assert probes_of(ctx, pool, begun - timedelta(seconds=1)).runs == 1
    (claim,) = (r for r in ctx.ports.ledger.reservations(live=False) if r.claimant == f"{run.run_id}/t#0")
    assert claim.most.memory == numbers["memory_after"]
