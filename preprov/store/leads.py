"""The port for what warming took."""

from datetime import datetime

from sqlmodel import col, select

from preprov.contracts import LeadObservation
from preprov.model.pools import Standby
from preprov.store.codec import dump_json, load_json
from preprov.store.engine import Database
from preprov.store.rows import LeadRow


class SqlLeadTimeStore:
    """Implements `contracts.LeadTimeStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, observation: LeadObservation) -> None:
        """Keep it. Idempotent by (node_id, came_from, at)."""
        o = observation
        same = select(LeadRow.id).where(
            col(LeadRow.node_id) == o.node_id, col(LeadRow.came_from) == str(o.came_from), col(LeadRow.at) == o.at
        )
        with self._db.write(f"lead:{o.node_id}") as session:
            if session.exec(same).first() is None:
                session.add(_row(o))

    def observations(
        self, provider: str | None = None, *, since: datetime | None = None
    ) -> tuple[LeadObservation, ...]:
        """In time order."""
        wanted = select(LeadRow)
        if provider is not None:
            wanted = wanted.where(col(LeadRow.provider) == provider)
        if since is not None:
            wanted = wanted.where(col(LeadRow.at) >= since)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(LeadRow.at), col(LeadRow.id))).all()
        return tuple(_observation(r) for r in rows)


def _row(o: LeadObservation) -> LeadRow:
    return LeadRow(
        at=o.at,
        pool=o.pool,
        provider=o.provider,
        group=o.group,
        zone=o.zone,
        instance_type=o.instance_type,
        image=o.image,
        came_from=str(o.came_from),
        seconds=o.seconds,
        node_id=o.node_id,
        stages=dump_json(dict(o.stages)),
        outcome=o.outcome,
        recorded=o.recorded,
    )


def _observation(row: LeadRow) -> LeadObservation:
    return LeadObservation(
        at=row.at,
        pool=row.pool,
        provider=row.provider,
        group=row.group,
        zone=row.zone,
        instance_type=row.instance_type,
        image=row.image,
        came_from=Standby(row.came_from),
        seconds=row.seconds,
        node_id=row.node_id,
        stages=load_json(row.stages),
        outcome=row.outcome,
        recorded=row.recorded,
    )
