"""The door to the store: open it, take its ports, bring its schema up to date."""

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from preprov.contracts import Ports
from preprov.model.errors import StoreError
from preprov.model.usage import Thinning
from preprov.store import migrate
from preprov.store.access import SqlTokenStore
from preprov.store.adoptions import SqlAdoptionStore
from preprov.store.audit import SqlAuditLog
from preprov.store.engine import Database, resolve
from preprov.store.events import SqlEventStore
from preprov.store.forecasts import SqlForecastStore
from preprov.store.intent import SqlIntentStore
from preprov.store.leads import SqlLeadTimeStore
from preprov.store.learning import SqlLearningStore
from preprov.store.leases import SqlLeaseStore
from preprov.store.ledger import SqlReservationLedger
from preprov.store.models import SqlModelStore
from preprov.store.plans import SqlPlanStore
from preprov.store.prices import SqlPriceStore
from preprov.store.promises import SqlPromiseStore
from preprov.store.samples import ParquetSampleStore
from preprov.store.snapshots import SqlHistoryStore
from preprov.store.sourcenames import Counted
from preprov.store.sources import SqlSourceStore
from preprov.store.votes import SqlVoteStore
from preprov.store.windows import SqlWindowStore
from preprov.store.work import SqlWorkStore


class Store:
    """An open store. Safe for several threads; every process opens its own."""

    def __init__(self, db: Database, samples: ParquetSampleStore, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._samples = samples
        self._now = now

    @property
    def where(self) -> str:
        """Its address, without the password."""
        return self._db.where

    @cached_property
    def _ports(self) -> Ports:
        db, counted = self._db, Counted()
        return Ports(
            work=SqlWorkStore(db, counted),
            sources=SqlSourceStore(db, counted),
            forecasts=SqlForecastStore(db),
            plans=SqlPlanStore(db),
            audit=SqlAuditLog(db),
            ledger=SqlReservationLedger(db, self._now),
            windows=SqlWindowStore(db),
            leads=SqlLeadTimeStore(db),
            votes=SqlVoteStore(db),
            models=SqlModelStore(db),
            learning=SqlLearningStore(db),
            promises=SqlPromiseStore(db),
            leases=SqlLeaseStore(db),
            samples=self._samples,
            intent=SqlIntentStore(db),
            history=SqlHistoryStore(db),
            adoptions=SqlAdoptionStore(db),
            tokens=SqlTokenStore(db),
            events=SqlEventStore(db),
            prices=SqlPriceStore(db),
        )

    def ports(self) -> Ports:
        """The narrow ports that use cases are given."""
        return self._ports

    def current(self) -> str | None:
        """The revision of the schema; None if the database is empty."""
        with self._db.errors(), self._db.engine.connect() as connection:
            return migrate.current(connection)

    @property
    def head(self) -> str:
        """The revision this program needs."""
        return migrate.HEAD

    def upgrade(self) -> str:
        """Bring the schema to `head`; returns the revision it is at now. Does nothing if it is there."""
        if self.current() != migrate.HEAD:
            migrate.move(self._db)
        return migrate.HEAD

    def close(self) -> None:
        """Give all connections back."""
        self._db.close()


def open_store(
    url: str,
    home: Path,
    *,
    check: bool = True,
    thinning: Thinning | None = None,
    now: Callable[[], float] = time.time,
) -> Store:
    """Open the store at `url` ("" = a SQLite file in `home`), with its usage samples under `home`/samples.

    An empty database is made ready, and so is an embedded one of an earlier version. A PostgreSQL one of an earlier
    version is left to its owner, because other controllers may use it.

    Args:
        check: False leaves the schema as it is: for `preprov db`.
        thinning: how samples grow coarser with age; None = as usual. now: epoch seconds, which age counts from.

    Raises:
        StoreUnavailableError: the database does not answer.
        StoreError: the address is no database's, or its schema is of another version.
    """
    db = Database(resolve(url, home))
    store = Store(db, ParquetSampleStore(home / "samples", thinning, now), now)
    try:
        if check:
            _make_ready(store, embedded=db.is_sqlite)
    except BaseException:
        store.close()
        raise
    return store


def _make_ready(store: Store, *, embedded: bool) -> None:
    revision = store.current()
    if revision == migrate.HEAD:
        return
    if revision is not None and revision > migrate.HEAD:
        raise StoreError(
            f"the store was written by a newer preprov (schema {revision}, this one knows {migrate.HEAD})",
            where=store.where,
            hint="upgrade preprov",
        )
    if revision is not None and not embedded:
        raise StoreError(
            f"the store's schema is {revision}, this preprov needs {migrate.HEAD}",
            where=store.where,
            hint="preprov db upgrade",
        )
    store.upgrade()
