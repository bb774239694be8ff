"""A pool whose nodes are filled by something else than cores."""

from dataclasses import replace

from preprov.control.forecasting import issue_forecast
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.model.work import State
from tests.unit.control.world import dag, make_group, make_pool, make_world, task

COPY = Resources(cpu=0.1, memory=0.5, network=400)  # two fill a node's network, forty its cores


def network_pool(binding: tuple[str, ...]):
    node = Offering("m", Resources(cpu=4, memory=64, network=800), usd_per_hour=0.2)
    return make_pool(groups=(make_group(node),), binding=binding)


def copies(due_in: float):
    tasks = [replace(task(f"copy{i}", seconds=300), request=COPY) for i in range(8)]
    return dag("copies", *tasks, due_in=due_in)


def most_nodes(binding: tuple[str, ...]) -> tuple[int, float, bool]:
    """Nodes at the most, network forecast at the most, and whether the run went well."""
    world = make_world(network_pool(binding))
    (run,) = world.submit(copies(due_in=300))
    forecast = issue_forecast(world.ctx, world.pool, horizon_s=3600, step_seconds=300).curve
    most = 0

    def count(_result: object) -> None:
        nonlocal most
        most = max(most, world.nodes())

    world.run_for(900, each=count)
    done = world.ctx.ports.work.run(run.run_id)
    return most, float(forecast.quantile(0.5, "network").max()), done is not None and done.state is State.SUCCEEDED


def test_where_network_binds_it_sets_the_forecast_and_the_number_of_nodes() -> None:
    nodes, network, ended_well = most_nodes(("cpu", "memory", "network"))
    assert network == 3200
    assert nodes == 4, "eight copies of 400 MB/s on nodes of 800 MB/s"
    assert ended_well


def test_where_it_does_not_bind_cores_do() -> None:
    nodes, network, ended_well = most_nodes(("cpu", "memory"))
    assert network == 3200, "the forecast tells of all resources, whichever binds"
    assert nodes == 1
    assert ended_well
