"""/metrics: what the store knows now, for Prometheus. Base units, no ids in labels."""

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from preprov.control.context import Context
from preprov.model.reservations import Purpose, ReservationState
from preprov.planning.held import held_by_tenant
from preprov.web.outcomes import Outcomes
from preprov.web.routes.capacity import SEEN_LATELY
from preprov.web.security import Caller, Scraper

router = APIRouter(tags=["metrics"])


class StoreCollector(Collector):
    """Every pool, read from the store as it is asked for: a flow of seconds cannot be scraped itself."""

    def __init__(self, caller: Caller, outcomes: Outcomes) -> None:
        self.caller, self.outcomes = caller, outcomes

    def collect(self) -> Iterator[Metric]:
        """All families."""
        ctx = self.caller.ctx
        pools = [p.name for p in self.caller.pools()]
        yield from _snapshots(ctx, pools)
        yield from _reservations(self.caller, pools)
        yield from self.outcomes.collect(ctx, self.caller.pools())


def _snapshots(ctx: Context, pools: list[str]) -> Iterator[GaugeMetricFamily]:
    now = ctx.clock.now()
    nodes = GaugeMetricFamily("preprov_nodes", "Nodes by phase, as last seen.", labels=["pool", "phase"])
    target = GaugeMetricFamily("preprov_target_nodes", "Running nodes that the plan wanted.", labels=["pool"])
    ready = GaugeMetricFamily("preprov_allocatable_cores", "Cores of ready nodes.", labels=["pool"])
    used = GaugeMetricFamily("preprov_used_cores", "Cores that work claims on them.", labels=["pool"])
    waiting = GaugeMetricFamily("preprov_waiting_cores", "Cores of ready work that had no node.", labels=["pool"])
    rate = GaugeMetricFamily("preprov_cost_dollars_per_hour", "Of all that exists.", labels=["pool"])
    age = GaugeMetricFamily("preprov_snapshot_age_seconds", "Since the pool was last seen.", labels=["pool"])
    for pool in pools:
        rows = ctx.ports.history.snapshots(pool, since=now - SEEN_LATELY, until=now)
        if not rows:
            continue
        last = rows[-1]
        phases: dict[str, int] = {}
        for counts in last.nodes.values():
            for phase, count in counts.items():
                phases[phase] = phases.get(phase, 0) + count
        for phase, count in sorted(phases.items()):
            nodes.add_metric([pool, phase], count)
        target.add_metric([pool], last.target)
        ready.add_metric([pool], last.allocatable.cpu)
        used.add_metric([pool], last.used.cpu)
        waiting.add_metric([pool], last.waiting.cpu)
        age.add_metric([pool], (now - last.at).total_seconds())
        if last.usd_per_hour is not None:
            rate.add_metric([pool], last.usd_per_hour)
    yield from (nodes, target, ready, used, waiting, rate, age)


def _reservations(caller: Caller, pools: list[str]) -> Iterator[GaugeMetricFamily]:
    ctx = caller.ctx
    booked = GaugeMetricFamily(
        "preprov_reservations", "Live reservations that are no task's.", labels=["pool", "purpose", "state"]
    )
    held = GaugeMetricFamily(
        "preprov_held_cores",
        "Cores bound for a tenant; without a name, for all others together.",
        labels=["pool", "tenant"],
    )
    for pool in pools:
        live = ctx.ports.ledger.reservations(pool)
        counts: dict[tuple[str, str], int] = {}
        for r in live:
            if r.purpose is not Purpose.TASK:
                counts[str(r.purpose), str(r.state)] = counts.get((str(r.purpose), str(r.state)), 0) + 1
        for (purpose, state), count in sorted(counts.items()):
            booked.add_metric([pool, purpose, state], count)
        bound = [r for r in live if r.state is ReservationState.COMMITTED]
        cores = {tenant: amount.cpu for tenant, amount in held_by_tenant(bound, ctx.clock.now()).items()}
        for tenant, cpu in sorted(_told(cores, caller.sees).items()):
            held.add_metric([pool, tenant], cpu)
    yield from (booked, held)


def _told(of: Mapping[str, float], tenant: str | None) -> Mapping[str, float]:
    """By tenant, as that one may see it: the others as one, whose name is empty. None sees all of them."""
    if tenant is None:
        return of
    own = {tenant: of[tenant]} if tenant in of else {}
    others = [v for name, v in of.items() if name != tenant]
    return {**own, "": sum(others)} if others else own


@router.get("/metrics", summary="For Prometheus", response_class=Response)
def metrics(caller: Scraper, request: Request) -> Response:
    """Needs a token of scope `metrics` (`authorization.credentials_file` in the scrape configuration).

    Its own tenant is named, and all others are one row without a name; an administrator's token is told every name.
    """
    registry = CollectorRegistry()
    registry.register(StoreCollector(caller, request.app.state.outcomes))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
