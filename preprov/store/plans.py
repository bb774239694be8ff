"""The port for made plans."""

from sqlalchemy import func
from sqlmodel import col, select

from preprov.model.plans import CapacityPlan
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import PlanRow


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

    def latest(self, pool: str) -> CapacityPlan | None:
        """The last one made."""
        last = (
            select(PlanRow.document)
            .where(col(PlanRow.pool) == pool)
            .order_by(col(PlanRow.issued_at).desc(), col(PlanRow.id).desc())
            .limit(1)
        )
        with self._db.read() as session:
            document = session.exec(last).first()
        return load(CapacityPlan, document) if document else None
