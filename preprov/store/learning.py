"""The port for the evidence about models: backtests, scores of issued forecasts, days kept out of training."""

from datetime import datetime

from sqlmodel import col, select

from preprov.model.learning import BacktestRecord, ForecastScore, QuarantinedDay
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import BacktestRow, ForecastScoreRow, QuarantinedDayRow


class SqlLearningStore:
    """Implements `contracts.LearningStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save_backtest(self, record: BacktestRecord) -> None:
        """Keep it, by backtest_id."""
        with self._db.write(f"learning:{record.pool}") as session:
            wanted = select(BacktestRow).where(col(BacktestRow.backtest_id) == record.backtest_id)
            row = session.exec(wanted).first() or BacktestRow(
                backtest_id=record.backtest_id, pool=record.pool, at=record.at, document=""
            )
            row.at, row.document = record.at, dump(record)
            session.add(row)

    def backtests(self, pool: str) -> tuple[BacktestRecord, ...]:
        """Newest first."""
        wanted = select(BacktestRow.document).where(col(BacktestRow.pool) == pool)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(BacktestRow.at).desc(), col(BacktestRow.id).desc())).all()
        return tuple(load(BacktestRecord, document) for document in rows)

    def backtest(self, backtest_id: str) -> BacktestRecord | None:
        """One by id."""
        with self._db.read() as session:
            row = session.exec(select(BacktestRow).where(col(BacktestRow.backtest_id) == backtest_id)).first()
            return load(BacktestRecord, row.document) if row else None

    def save_score(self, score: ForecastScore) -> None:
        """Keep it, by forecast_id."""
        with self._db.write(f"learning:{score.pool}") as session:
            session.merge(
                ForecastScoreRow(
                    forecast_id=score.forecast_id, pool=score.pool, issued_at=score.issued_at, document=dump(score)
                )
            )

    def scores(self, pool: str, *, since: datetime | None = None) -> tuple[ForecastScore, ...]:
        """Of forecasts issued since then, in the order of their issue."""
        wanted = select(ForecastScoreRow.document).where(col(ForecastScoreRow.pool) == pool)
        if since is not None:
            wanted = wanted.where(col(ForecastScoreRow.issued_at) >= since)
        ordered = wanted.order_by(col(ForecastScoreRow.issued_at), col(ForecastScoreRow.forecast_id))
        with self._db.read() as session:
            rows = session.exec(ordered).all()
        return tuple(load(ForecastScore, document) for document in rows)

    def quarantine(self, day: QuarantinedDay) -> None:
        """Keep it as it is now, by (pool, day)."""
        with self._db.write(f"learning:{day.pool}") as session:
            session.merge(QuarantinedDayRow(pool=day.pool, day=day.day.isoformat(), document=dump(day)))

    def quarantined(self, pool: str) -> tuple[QuarantinedDay, ...]:
        """By day, lifted ones too."""
        wanted = select(QuarantinedDayRow.document).where(col(QuarantinedDayRow.pool) == pool)
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(QuarantinedDayRow.day))).all()
        return tuple(load(QuarantinedDay, document) for document in rows)
