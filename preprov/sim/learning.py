"""The evidence about models, in memory: backtests, scores of issued forecasts, days kept out of training."""

from datetime import date, datetime

from preprov.model.learning import BacktestRecord, ForecastScore, QuarantinedDay


class MemoryLearning:
    """LearningStore in memory."""

    def __init__(self) -> None:
        self._backtests: dict[str, BacktestRecord] = {}
        self._scores: dict[str, ForecastScore] = {}
        self._days: dict[tuple[str, date], QuarantinedDay] = {}

    def save_backtest(self, record: BacktestRecord) -> None:
        """Keep it, by backtest_id."""
        self._backtests[record.backtest_id] = record

    def backtests(self, pool: str) -> tuple[BacktestRecord, ...]:
        """Newest first."""
        found = [r for r in self._backtests.values() if r.pool == pool]
        return tuple(sorted(reversed(found), key=lambda r: r.at, reverse=True))

    def backtest(self, backtest_id: str) -> BacktestRecord | None:
        """One by id."""
        return self._backtests.get(backtest_id)

    def save_score(self, score: ForecastScore) -> None:
        """Keep it, by forecast_id."""
        self._scores[score.forecast_id] = score

    def scores(self, pool: str, *, since: datetime | None = None) -> tuple[ForecastScore, ...]:
        """Of forecasts issued since then, in the order of their issue."""
        found = [s for s in self._scores.values() if s.pool == pool and (since is None or s.issued_at >= since)]
        return tuple(sorted(found, key=lambda s: (s.issued_at, s.forecast_id)))

    def quarantine(self, day: QuarantinedDay) -> None:
        """Keep it as it is now, by (pool, day)."""
        self._days[day.pool, day.day] = day

    def quarantined(self, pool: str) -> tuple[QuarantinedDay, ...]:
        """By day, lifted ones too."""
        return tuple(d for (name, _), d in sorted(self._days.items()) if name == pool)
