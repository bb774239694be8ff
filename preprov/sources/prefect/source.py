"""Prefect as a place where work lives."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from preprov.contracts import Clock, Finding, Progress, SourceState, SyncBatch
from preprov.model.errors import SourceError
from preprov.sources.budget import RequestBudget
from preprov.sources.prefect.client import PrefectReader, Secrets
from preprov.sources.prefect.deployments import Declared
from preprov.sources.prefect.reading import Reading
from preprov.sources.releases import release_finding
from preprov.sources.skew import clock_finding


@dataclass(frozen=True)
class PrefectSettings:
    """How one Prefect is read.

    Attributes:
        name: of the source. url: of its API, with /api. secrets: who asks.
        history_days: how far back the past is read. patience_s: seconds of a pass that go into it.
    """

    name: str
    url: str
    secrets: Secrets = field(default_factory=Secrets)
    tenant: str = "default"
    requests_per_second: float = 2.0
    history_days: float = 28.0
    patience_s: float = 30.0
    zone: str = "UTC"


class PrefectSource:
    """Implements `contracts.LiveSource`."""

    def __init__(self, settings: PrefectSettings, clock: Clock, *, transport: Any = None) -> None:
        """Ask nothing yet.

        Args:
            transport: of httpx, instead of the network.
        """
        self._settings = settings
        budget = RequestBudget(settings.requests_per_second, clock)
        self._reader = PrefectReader(settings.url, settings.secrets, budget, clock, transport=transport)
        self._reading = Reading(self._reader, settings.name, settings.tenant, settings.zone, clock)

    @property
    def key(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def zone(self) -> str:
        """As configured: Prefect's own times are UTC."""
        return self._settings.zone

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """What changed since the cursor."""
        s = self._settings
        yield from self._reading.run(state, now, s.history_days * 86_400.0, s.patience_s, progress)

    def examine(self) -> tuple[Finding, ...]:
        """Address, version, clock, and how much can be seen."""
        found: list[Finding] = []
        try:
            version = self._reader.get("/admin/version")
            if version is None:
                raise SourceError("this address answers, but not as a Prefect", hint="the url ends in /api")
            found.append(release_finding("Prefect", str(version), _LEAST))
            runs = self._reader.count("/flow_runs/count", {})
            words = Declared(self._reader, self.key, self._settings.tenant, self.zone).words()
        except SourceError as error:
            where = error.where or self._settings.url
            return (*found, Finding("address", "bad", f"{where}: {error.what}", error.hint or _HINT))
        return (
            *found,
            clock_finding(self._reader.clock.ahead_s),
            Finding("runs", "ok", f"{runs:,} flow runs"),
            Finding("declared", "ok", words),
        )


_LEAST: Final = "3.0"
_HINT: Final = "url is that of Prefect's API, such as http://127.0.0.1:4200/api"
