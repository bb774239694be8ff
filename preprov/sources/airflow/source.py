"""Airflow as a place where work lives.

A pass reads, in this order: the DAGs with their timetables (once a minute), runs that are open and what changed in
them, runs that ended since the last pass, open runs that are nowhere to be found any more, and then as much of the past
as fits in half a minute. What a run looks like in the end is read anew when it has ended, so that what history holds
does not rest on what was seen on the way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from preprov.contracts import Clock, Finding, Progress, SourceState, SyncBatch
from preprov.model.time import epoch
from preprov.sources.airflow.client import ATTEMPTS, TIMEOUT_S, AirflowClient, Version
from preprov.sources.airflow.credentials import Credential, MwaaCredential, checked_url
from preprov.sources.airflow.examine import examine
from preprov.sources.airflow.reading import Reading
from preprov.sources.budget import RequestBudget

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class AirflowSettings:
    """How one Airflow is read.

    Attributes:
        name: of the source. url: without /api; "" = the credential knows (MWAA).
        tenant: whose work it is; "{owner}" in it stands for the DAG's owner.
        history_days: how far back the past is read.
        patience_s: seconds of a pass that go into the past.
        attempts: of a request, each of which may take `timeout_s` seconds.
        tries_a_pass: task instances of which a pass asks for earlier tries.
        variable: Airflow variable that holds turns of timetables of one's own (see the provider); "" = none.
    """

    name: str
    url: str
    credential: Credential
    api: Literal["auto", "v1", "v2"] = "auto"
    tenant: str = "default"
    requests_per_second: float = 2.0
    history_days: float = 28.0
    patience_s: float = 30.0
    attempts: int = ATTEMPTS
    timeout_s: float = TIMEOUT_S
    verify: bool | Path = True
    zone: str = "UTC"
    tries_a_pass: int = 100
    variable: str = "preprov_timetables"


class AirflowSource:
    """Implements `contracts.LiveSource`.

    It remembers the open runs from pass to pass, so that a pass asks for what changed; a new process asks for all.
    """

    def __init__(
        self, settings: AirflowSettings, clock: Clock, *, transport: "httpx.BaseTransport | None" = None
    ) -> None:
        """Ask nothing yet.

        Args:
            transport: instead of the network.
        """
        self._settings = settings
        version: Version | None = None if settings.api == "auto" else settings.api
        self._client = AirflowClient(
            _address(settings),
            settings.credential,
            RequestBudget(settings.requests_per_second, clock),
            clock,
            version=version,
            verify=settings.verify,
            attempts=settings.attempts,
            timeout_s=settings.timeout_s,
            transport=transport,
        )
        self._reading = Reading(self._client, settings.name, settings.tenant, clock, settings.tries_a_pass)
        self._clock = clock

    @property
    def key(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def zone(self) -> str:
        """Of its wall clock, as configured: Airflow's own times are UTC."""
        return self._settings.zone

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """What changed since the cursor."""
        s = self._settings
        yield from self._reading.run(
            state,
            epoch(now),
            history_s=s.history_days * 86400,
            patience_s=s.patience_s,
            variable=s.variable,
            progress=progress,
        )

    def running(self) -> dict[str, tuple[str, ...]]:
        """Host of a worker, as Airflow names it -> tasks that run there now: a request for each page of such tasks.

        Raises:
            SourceError: Airflow does not say.
        """
        found: dict[str, set[str]] = {}
        for page in self._client.pages("dags/~/dagRuns/~/taskInstances", "task_instances", {"state": "running"}):
            for t in page:
                name = "/".join(str(t.get(k)) for k in ("dag_id", "dag_run_id", "task_id", "map_index"))
                found.setdefault(str(t.get("hostname") or ""), set()).add(name)
        return {host: tuple(sorted(tasks)) for host, tasks in found.items()}

    def examine(self) -> tuple[Finding, ...]:
        """Address, version, each right, and how much can be seen."""
        return examine(self._client, self._settings.variable)


def _address(settings: AirflowSettings) -> Callable[[], str]:
    if not settings.url and isinstance(settings.credential, MwaaCredential):
        credential = settings.credential
        return lambda: credential.url
    url = checked_url(settings.url)
    return lambda: url
