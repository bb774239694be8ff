"""The deployments of one machine: `python -m flows.deployments` serves them until it is stopped."""

from dataclasses import dataclass
from typing import cast

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.types.entrypoint import EntrypointType


@dataclass(frozen=True)
class Deployment:
    """A flow and when it runs (cron in UTC; None = on request: the ticks of `preprov up` do it in-process)."""

    name: str
    entrypoint: str
    cron: str | None


DEPLOYMENTS = (
    Deployment("forecast-nightly", "flows.forecast_demand.forecast_demand", "0 21 * * *"),
    Deployment("forecast-6h", "flows.forecast_demand.forecast_demand", "0 3,9,15 * * *"),
    Deployment("retrain-weekly", "flows.retrain.retrain", "30 20 * * 0"),
    Deployment("analyze-queue", "flows.analyze_queue.analyze_queue", None),
    Deployment("warm-pools", "flows.warm_pools.warm_pools", None),
    Deployment("adjust", "flows.adjust.adjust", None),
    Deployment("scale-down", "flows.scale_down.scale_down", None),
)


def runner_deployments() -> list[RunnerDeployment]:
    """All of them, for a process that serves; one run of each at a time."""
    return [_runner_deployment(d) for d in DEPLOYMENTS]


def _runner_deployment(d: Deployment) -> RunnerDeployment:
    made = load_flow_from_entrypoint(d.entrypoint).to_deployment(
        name=d.name,
        cron=d.cron,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        tags=["preprov"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return cast(RunnerDeployment, made)  # a coroutine only inside an event loop


if __name__ == "__main__":
    serve(*runner_deployments(), print_starting_message=False)
