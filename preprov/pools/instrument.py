"""Latency, errors and traces of any provider, without touching it.

`preprov_provider_call_seconds` is a histogram with the labels provider, verb and outcome: "ok", or the name of the
error. Each call is a span `provider.verb` of OpenTelemetry; without its SDK that costs nothing.
"""

from collections.abc import Callable
from functools import cache, wraps
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar, cast

from preprov.contracts import (
    Adopts,
    BakesImages,
    Examined,
    GivesNotice,
    KeepsNodes,
    KeepsVolumes,
    LeasesRaises,
    LeavesNotes,
    PoolProvider,
    Preflights,
    Quotes,
    RecallsLeads,
    SetsFloor,
    SetsTargets,
    Tended,
)
from preprov.model.errors import PreprovError

P = TypeVar("P", bound=PoolProvider)

_PROTOCOLS: Final = (
    PoolProvider,
    SetsTargets,
    Tended,
    GivesNotice,
    Quotes,
    Examined,
    Adopts,
    LeasesRaises,
    LeavesNotes,
    SetsFloor,
    KeepsNodes,
    KeepsVolumes,
    BakesImages,
    Preflights,
    RecallsLeads,
)
VERBS: Final = tuple(
    sorted(
        {
            name
            for protocol in _PROTOCOLS
            for name, value in vars(protocol).items()
            if callable(value) and not name.startswith("_")
        }
    )
)
"""Every method of a provider that the contracts name."""
_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Meter(Protocol):
    """Where the numbers go."""

    def called(self, provider: str, verb: str, outcome: str, seconds: float) -> None:
        """A call has ended. `outcome`: "ok" or the error's name."""
        ...


class PrometheusMeter:
    """Keeps them for Prometheus to scrape.

    Args:
        registry: a `CollectorRegistry`; None = the process's own.
    """

    def __init__(self, registry: Any = None) -> None:
        from prometheus_client import REGISTRY, Histogram

        self._histogram = Histogram(
            "preprov_provider_call_seconds",
            "Time a call of a pool provider took",
            ("provider", "verb", "outcome"),
            buckets=_BUCKETS,
            registry=registry or REGISTRY,
        )

    def called(self, provider: str, verb: str, outcome: str, seconds: float) -> None:
        """Keep one."""
        self._histogram.labels(provider, verb, outcome).observe(seconds)


@cache
def process_meter() -> Meter:
    """The meter of this process, to be scraped with all else it shows."""
    return PrometheusMeter()


def instrumented(provider: P, meter: Meter) -> P:
    """The same provider, whose calls are measured; it fits every protocol that the provider fits."""
    methods: dict[str, Any] = {
        verb: staticmethod(_measured(provider.name, verb, getattr(provider, verb), meter))
        for verb in VERBS
        if hasattr(provider, verb)
    }
    made = type(f"Instrumented{type(provider).__name__}", (), {**methods, "name": provider.name, "within": provider})
    return cast("P", made())


def _measured(provider: str, verb: str, call: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    from opentelemetry import trace

    tracer = trace.get_tracer("preprov.pools")

    @wraps(call)
    def measured(*args: Any, **kwargs: Any) -> Any:
        began, outcome = perf_counter(), "ok"
        with tracer.start_as_current_span(f"{provider}.{verb}") as span:
            try:
                return call(*args, **kwargs)
            except Exception as e:
                outcome = e.kind if isinstance(e, PreprovError) else type(e).__name__
                span.set_attribute("error.type", outcome)
                raise
            finally:
                meter.called(provider, verb, outcome, perf_counter() - began)

    return measured
