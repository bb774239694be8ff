"""Users' jobs on a real Slurm: what they hold of a node is nobody's to promise."""

from datetime import timedelta

from preprov.contracts import LaunchRequest
from preprov.control import reserving
from preprov.control.context import Context
from preprov.control.passes import pool_pass
from preprov.control.reserving import Asked
from preprov.model.nodes import Phase
from preprov.model.offerings import Preload
from preprov.model.reservations import Segment
from preprov.model.resources import Resources, sum_of
from preprov.planning.prices import TablePriceBook
from preprov.sim.ports import memory_ports
from tests.slurmworld import SlurmWorld


def test_a_booking_is_handed_over_beside_no_users_job(world: SlurmWorld) -> None:
    group = world.pool.groups[0]
    request = LaunchRequest(world.pool, group.name, group.offerings[0], 2, "two", Preload(), {})
    full, idle = sorted(world.provider.launch(request))
    for name in (full, idle):
        world.wait(name, Phase.READY)
    asks = ("--partition=batch", f"--nodelist={full}", "-n1", "-c2", "--mem=100M", "--output=/dev/null", "--chdir=/")
    world.cluster.run("sbatch", "--parsable", *asks, "--wrap=sleep 600")

    def held(name: str) -> Resources:
        return sum_of(f.amount for f in world.node(name).foreign or ())

    world.until(lambda: held(full).cpu == 2, "the job to hold both cores")
    assert held(full).memory > 0
    assert all(f.since is not None for f in world.node(full).foreign or ())
    assert held(idle).is_zero
    ctx = Context(
        ports=memory_ports(),
        providers={"slurm": world.provider},
        schedulers={"slurm": world.scheduler},
        prices=TablePriceBook.from_pools([world.pool]),
        clock=world.clock,
        pools={world.pool.name: world.pool},
        actor="test",
    )
    now = world.clock.now()
    segments = (Segment(now, now + timedelta(hours=1), Resources(cpu=1, memory=0.1)),)
    booked = reserving.book(ctx, Asked(world.pool.name, "red", "c", segments, key="c"))
    pool_pass(ctx, world.pool, plan=False)
    found = reserving.find(ctx, booked.booking_id, None)
    assert found is not None
    assert [m.node_id for m in found.members] == [idle]
    world.occupy(world.node(idle))
    assert held(idle).is_zero, "what preprov has started is in the ledger"
