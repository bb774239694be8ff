"""The port for scale-down votes."""

from collections.abc import Mapping
from datetime import datetime

from sqlmodel import col, delete, select

from preprov.store.engine import Database
from preprov.store.rows import VoteRow


class SqlVoteStore:
    """Implements `contracts.VoteStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def votes(self, pool: str) -> Mapping[str, datetime]:
        """node_id -> the first of its unbroken votes."""
        with self._db.read() as session:
            rows = session.exec(select(VoteRow).where(col(VoteRow.pool) == pool)).all()
        return {r.node_id: r.since for r in rows}

    def replace(self, pool: str, votes: Mapping[str, datetime]) -> None:
        """Set all votes of the pool; nodes not named lose theirs."""
        with self._db.write(f"votes:{pool}") as session:
            session.exec(delete(VoteRow).where(col(VoteRow.pool) == pool))
            session.add_all(VoteRow(pool=pool, node_id=n, since=at) for n, at in votes.items())
