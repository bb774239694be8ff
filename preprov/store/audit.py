"""The port for the audit log: rows are only added."""

from datetime import datetime
from typing import cast

from sqlmodel import col, select

from preprov.model.plans import ActionRecord
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import ActionNodeRow, ActionRow


class SqlAuditLog:
    """Implements `contracts.AuditLog`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, record: ActionRecord) -> None:
        """Add a row."""
        row = ActionRow(
            action_id=record.action.action_id,
            plan_id=record.plan_id,
            pool=record.pool,
            group=record.action.group,
            kind=str(record.action.kind),
            actor=record.actor,
            at=record.at,
            result=record.result,
            document=dump(record),
        )
        with self._db.write() as session:
            session.add(row)
            session.flush()
            nodes = dict.fromkeys((*record.node_ids, *record.action.node_ids))
            session.add_all(ActionNodeRow(action=cast(int, row.id), node_id=n) for n in nodes)

    def records(
        self,
        pool: str | None = None,
        *,
        since: datetime | None = None,
        node_id: str | None = None,
        action_id: str | None = None,
    ) -> tuple[ActionRecord, ...]:
        """Rows in time order."""
        wanted = select(ActionRow.document)
        if pool is not None:
            wanted = wanted.where(col(ActionRow.pool) == pool)
        if since is not None:
            wanted = wanted.where(col(ActionRow.at) >= since)
        if action_id is not None:
            wanted = wanted.where(col(ActionRow.action_id) == action_id)
        if node_id is not None:
            of_node = select(ActionNodeRow.action).where(col(ActionNodeRow.node_id) == node_id)
            wanted = wanted.where(col(ActionRow.id).in_(of_node))
        with self._db.read() as session:
            documents = session.exec(wanted.order_by(col(ActionRow.at), col(ActionRow.id))).all()
        return tuple(load(ActionRecord, d) for d in documents)
