"""The port for the lease of a pool: one pass over it at a time, in all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlmodel import col, delete

from preprov.model.errors import LeaseHeldError, StoreUnavailableError
from preprov.store.engine import Database
from preprov.store.holders import is_dead
from preprov.store.rows import LeaseRow

_log = structlog.get_logger(__name__)


class SqlLeaseStore:
    """Implements `contracts.LeaseStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @contextmanager
    def hold(self, pool: str, holder: str, ttl_s: float, now: datetime) -> Iterator[None]:
        """Hold the pool's lease inside the `with`.

        A lease is held once, also by the same holder: two threads of one controller may no more overlap than two
        controllers. What crashed while holding it leaves it to expire, or to whoever can see that it is dead.
        """
        token = uuid4().hex
        self._take(pool, holder, token, now, now + timedelta(seconds=ttl_s))
        try:
            yield
        finally:
            self._give_back(pool, token)

    def _take(self, pool: str, holder: str, token: str, now: datetime, until: datetime) -> None:
        with self._db.write(f"lease:{pool}") as session:
            row = session.get(LeaseRow, pool)
            if row is not None and row.until > now and not is_dead(row.holder):
                raise LeaseHeldError(
                    f"{row.holder} is passing over pool {pool} until {row.until.isoformat(timespec='seconds')}",
                    where=f"pool {pool}",
                    hint="it ends by itself; the next pass will do",
                )
            session.merge(LeaseRow(pool=pool, holder=holder, token=token, until=until))

    def _give_back(self, pool: str, token: str) -> None:
        mine = delete(LeaseRow).where(col(LeaseRow.pool) == pool, col(LeaseRow.token) == token)
        try:
            with self._db.write(f"lease:{pool}") as session:
                session.exec(mine)
        except StoreUnavailableError as error:
            # The pass itself is over; raising here would hide how it went. The lease expires.
            _log.warning("lease not given back", pool=pool, error=str(error))
