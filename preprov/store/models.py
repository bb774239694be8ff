"""The port for model versions: safe formats only, checked when written and again when read."""

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy.orm import defer
from sqlmodel import Session, col, delete, select

from preprov.contracts import ModelVersion
from preprov.model.errors import StoreError, UnsafeModelError
from preprov.model.learning import Promotion
from preprov.store import safety
from preprov.store.codec import dump_json, load_json
from preprov.store.engine import Database
from preprov.store.rows import ModelRow, PromotionRow


class SqlModelStore:
    """Implements `contracts.ModelStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save(
        self,
        pool: str,
        kind: str,
        fmt: str,
        blob: bytes,
        *,
        at: datetime,
        metrics: Mapping[str, float],
        reason: str = "",
    ) -> ModelVersion:
        """Keep a version; the first of a (pool, kind) is promoted at once. Saved again, it is the same version."""
        safety.check(fmt, blob, f"{pool}/{kind}")
        digest = hashlib.sha256(blob).hexdigest()
        version = f"{kind}-{at:%Y%m%dT%H%M%S}-{hashlib.sha256(f'{pool}{digest}{at:%f}'.encode()).hexdigest()[:8]}"
        with self._db.write(f"model:{pool}:{kind}") as session:
            row = _row(session, version)
            if row is None:
                row = ModelRow(
                    version=version,
                    pool=pool,
                    kind=kind,
                    format=fmt,
                    sha256=digest,
                    created_at=at,
                    champion=_champion(session, pool, kind) is None,
                    metrics=dump_json(dict(metrics)),
                    reason=reason,
                    data=blob,
                )
                session.add(row)
                if row.champion:
                    session.add(_promotion(row, before="", at=at, reason=reason))
            return _version(row)

    def load(self, pool: str, kind: str, version: str | None = None) -> tuple[ModelVersion, bytes] | None:
        """The champion, or the version named."""
        with self._db.read() as session:
            row = _champion(session, pool, kind) if version is None else _row(session, version)
            if row is None or (row.pool, row.kind) != (pool, kind):
                return None
            found, blob = _version(row), row.data
        if hashlib.sha256(blob).hexdigest() != found.sha256:
            raise UnsafeModelError(
                "the stored model is not what was written: its digest differs",
                where=f"{pool}/{kind}/{found.version}",
                hint="train it again, and find out who else writes to the store",
            )
        safety.check(found.format, blob, f"{pool}/{kind}/{found.version}")
        return found, blob

    def versions(self, pool: str | None = None) -> tuple[ModelVersion, ...]:
        """Newest first."""
        wanted = select(ModelRow).options(defer(ModelRow.data))  # type: ignore[arg-type]  # the bytes are megabytes each
        if pool is not None:
            wanted = wanted.where(col(ModelRow.pool) == pool)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(ModelRow.created_at).desc(), col(ModelRow.id).desc())).all()
        return tuple(_version(r) for r in rows)

    def promote(
        self,
        version: str,
        *,
        at: datetime,
        reason: str,
        backtest_id: str = "",
        actor: str = "",
        rollback: bool = False,
    ) -> ModelVersion:
        """Make it champion of its (pool, kind), and remember that."""
        with self._db.read() as session:
            lock = _lock(_existing(session, version))
        with self._db.write(lock) as session:
            row = _existing(session, version)
            before = _champion(session, row.pool, row.kind)
            if before is not None and before.version == version:
                return _version(row)
            if before is not None:
                before.champion = False
                session.add(before)
                session.flush()  # at no instant are there two
            row.champion, row.reason, row.backtest_id = True, reason, backtest_id or row.backtest_id
            session.add(row)
            made = _promotion(row, before=before.version if before else "", at=at, reason=reason)
            made.backtest_id, made.actor, made.rollback = backtest_id, actor, rollback
            session.add(made)
            return _version(row)

    def promotions(self, pool: str, kind: str) -> tuple[Promotion, ...]:
        """Newest first."""
        wanted = select(PromotionRow).where(col(PromotionRow.pool) == pool, col(PromotionRow.kind) == kind)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(PromotionRow.id).desc())).all()
        return tuple(
            Promotion(r.pool, r.kind, r.version, r.before, r.at, r.reason, r.backtest_id, r.actor, r.rollback)
            for r in rows
        )

    def forget(self, versions: Collection[str]) -> int:
        """Delete these versions, a champion never; returns how many."""
        if not versions:
            return 0
        gone = delete(ModelRow).where(col(ModelRow.version).in_(list(versions)), col(ModelRow.champion).is_(False))
        with self._db.write() as session:
            return int(session.exec(gone).rowcount)


def _lock(row: ModelRow) -> str:
    return f"model:{row.pool}:{row.kind}"


def _existing(session: Session, version: str) -> ModelRow:
    row = _row(session, version)
    if row is None:
        raise StoreError(f"no model version {version}", hint="preprov model list")
    return row


def _promotion(row: ModelRow, *, before: str, at: datetime, reason: str) -> PromotionRow:
    return PromotionRow(
        pool=row.pool,
        kind=row.kind,
        version=row.version,
        before=before,
        at=at,
        reason=reason,
        backtest_id="",
        actor="",
        rollback=False,
    )


def _row(session: Session, version: str) -> ModelRow | None:
    return session.exec(select(ModelRow).where(col(ModelRow.version) == version)).first()


def _champion(session: Session, pool: str, kind: str) -> ModelRow | None:
    wanted = select(ModelRow).where(
        col(ModelRow.pool) == pool, col(ModelRow.kind) == kind, col(ModelRow.champion).is_(True)
    )
    return session.exec(wanted).first()


def _version(row: ModelRow) -> ModelVersion:
    return ModelVersion(
        version=row.version,
        pool=row.pool,
        kind=row.kind,
        format=row.format,
        sha256=row.sha256,
        created_at=row.created_at,
        champion=row.champion,
        metrics=load_json(row.metrics),
        backtest_id=row.backtest_id,
        reason=row.reason,
    )
