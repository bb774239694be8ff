"""The port for what warming took."""

from datetime import datetime
from typing import Final

from sqlmodel import col, select

from preprov.contracts import LeadObservation
from preprov.model.offerings import Standby
from preprov.model.time import aware
from preprov.store.codec import dump_json, load_json
from preprov.store.engine import Database
from preprov.store.rows import LeadRow

_AT_ONCE: Final = 200


class SqlLeadTimeStore:
    """Implements `contracts.LeadTimeStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, *observations: LeadObservation) -> None:
        """Keep them, some hundred in a transaction. Idempotent by (node_id, came_from, at)."""
        for i in range(0, len(observations), _AT_ONCE):
            some = observations[i : i + _AT_ONCE]
            nodes = sorted({o.node_id for o in some})
            with self._db.write(*(f"lead:{n}" for n in nodes)) as session:
                held = session.exec(
                    select(LeadRow.node_id, LeadRow.came_from, LeadRow.at).where(
                        col(LeadRow.node_id).in_(nodes), col(LeadRow.at).in_({aware(o.at) for o in some})
                    )
                ).all()
                known = set(held)
                for o in some:
                    key = (o.node_id, str(o.came_from), aware(o.at))
                    if key not in known:
                        known.add(key)
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
