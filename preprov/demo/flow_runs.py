"""Run the project's own flows through a Prefect server, at the time that the demonstration plays."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from preprov.clocks import ScaledClock
from preprov.demo.scene import POOL, Scene, surroundings
from preprov.model.errors import PreprovError
from preprov.prefect_server import quiet_environment, serving


class FlowError(PreprovError):
    """A flow of the demonstration did not complete."""


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A run of a flow, as the server knows it.

    Attributes:
        page: where the server's own pages show it. result: what the flow returned.
    """

    flow: str
    run_id: str
    state: str
    page: str
    result: Any

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"flow": self.flow, "run_id": self.run_id, "state": self.state, "page": self.page}


@contextmanager
def prefect(scene: Scene) -> Iterator[str]:
    """URL of the API in use; a server that was started for this is stopped at the end."""
    with ExitStack() as stack:
        url = stack.enter_context(serving(scene.home))
        quiet = quiet_environment(scene.home, url)
        stack.enter_context(
            surroundings({k: v for k, v in quiet.items() if k.startswith(("PREFECT_", "DO_NOT_TRACK"))})
        )
        yield url


def forecast_in_the_evening(scene: Scene, url: str) -> FlowRun:
    """The nightly forecast, issued in the evening before."""
    return _run(scene, url, "forecast_demand", ScaledClock(scene.evening, 1.0))


def warm_once(scene: Scene, url: str, clock: ScaledClock) -> FlowRun:
    """One pass that may only raise, on the clock of the night that is about to be played."""
    return _run(scene, url, "warm_pools", clock)


def load() -> None:
    """Import what the flows need, so that nothing of it is counted against the night."""
    for name in ("forecast_demand", "warm_pools"):
        _flow(name)


def load_models() -> None:
    """Import what models are fitted with; that takes seconds, which can be spent while the server starts."""
    importlib.import_module("quantile_forest")


def _flow(name: str) -> Any:
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(f"flows.{name}.{name}")


def _run(scene: Scene, url: str, name: str, clock: ScaledClock) -> FlowRun:
    flow = _flow(name)
    for noisy in ("prefect.flow_runs", "prefect.task_runs", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with surroundings(scene.environment(clock.text)):
        state = flow(pools=[POOL], return_state=True)
    run_id = str(state.state_details.flow_run_id)
    if not state.is_completed():
        raise FlowError(
            f"flow {name} ended as {state.name}: {state.message}", where=f"flow run {run_id}", hint=f"see {url}"
        )
    return FlowRun(name, run_id, str(state.name), f"{url.removesuffix('/api')}/runs/flow-run/{run_id}", state.result())
