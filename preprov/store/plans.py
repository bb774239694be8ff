"""The port for made plans."""

from typing import Final

from sqlalchemy import func
from sqlmodel import col, select

from preprov.model.plans import CapacityPlan
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import PlanRow

_LOOKED_AT: Final = 100
"""Plans, for one with targets: between two of those there are few that only react."""


class SqlPlanStore:
    """Implements `contracts.PlanStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save(self, plan: CapacityPlan) -> None:
        """Keep it, by plan_id."""
        with self._db.write(f"plan:{plan.plan_id}") as session:
            row = session.exec(select(PlanRow).where(col(PlanRow.plan_id) == plan.plan_id)).first()
            if row is None:
                row = PlanRow(plan_id=plan.plan_id, pool=plan.pool, issued_at=plan.issued_at, document="")
            row.pool, row.issued_at, row.document = plan.pool, plan.issued_at, dump(plan)
            session.add(row)

    def get(self, plan_id: str) -> CapacityPlan | None:
        """One by id or unique prefix."""
        if not plan_id:
            return None
        begins = func.substr(col(PlanRow.plan_id), 1, len(plan_id)) == plan_id
        with self._db.read() as session:
            exact = session.exec(select(PlanRow.document).where(col(PlanRow.plan_id) == plan_id)).first()
            near = [exact] if exact else session.exec(select(PlanRow.document).where(begins).limit(2)).all()
        return load(CapacityPlan, near[0]) if len(near) == 1 else None

    def latest(self, pool: str, *, ahead: bool = False) -> CapacityPlan | None:
        """The last one made, or the last with targets."""
        last = (
            select(PlanRow.document)
            .where(col(PlanRow.pool) == pool)
            .order_by(col(PlanRow.issued_at).desc(), col(PlanRow.id).desc())
            .limit(_LOOKED_AT if ahead else 1)
        )
        with self._db.read() as session:
            documents = session.exec(last).all()
        plans = (load(CapacityPlan, d) for d in documents)
        return next((p for p in plans if p.targets or not ahead), None)
