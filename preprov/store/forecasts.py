"""The port for issued forecasts: sample paths as npz, everything else as JSON."""

from datetime import datetime

from sqlmodel import col, select

from preprov.model.demand import DemandCurve
from preprov.model.plans import stable_id
from preprov.store.codec import dump_arrays, dump_json, load_arrays, load_json
from preprov.store.engine import Database
from preprov.store.rows import ForecastRow


class SqlForecastStore:
    """Implements `contracts.ForecastStore`. A curve's kind is `basis["kind"]`, else its step."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def save(self, curve: DemandCurve) -> str:
        """Keep it; returns its id, which (pool, issued_at, kind) decides."""
        kind = str(curve.basis.get("kind", curve.step_seconds))
        forecast_id = stable_id("forecast", curve.pool, curve.issued_at.isoformat(), kind)
        with self._db.write() as session:
            session.merge(
                ForecastRow(
                    forecast_id=forecast_id,
                    pool=curve.pool,
                    issued_at=curve.issued_at,
                    kind=kind,
                    header=_header(curve),
                    data=_arrays(curve),
                )
            )
        return forecast_id

    def latest(self, pool: str, at: datetime | None = None) -> tuple[str, DemandCurve] | None:
        """The last one issued at or before `at`."""
        wanted = select(ForecastRow).where(col(ForecastRow.pool) == pool)
        if at is not None:
            wanted = wanted.where(col(ForecastRow.issued_at) <= at)
        last = wanted.order_by(col(ForecastRow.issued_at).desc(), col(ForecastRow.kind)).limit(1)
        with self._db.read() as session:
            row = session.exec(last).first()
            return (row.forecast_id, _curve(row)) if row else None

    def get(self, forecast_id: str) -> DemandCurve | None:
        """One by id."""
        with self._db.read() as session:
            row = session.get(ForecastRow, forecast_id)
            return _curve(row) if row else None

    def issued(self, pool: str, since: datetime, until: datetime) -> tuple[tuple[str, datetime], ...]:
        """(id, issued at) of those issued in [since, until], in time order."""
        wanted = select(ForecastRow.forecast_id, ForecastRow.issued_at).where(
            col(ForecastRow.pool) == pool, col(ForecastRow.issued_at) >= since, col(ForecastRow.issued_at) <= until
        )
        with self._db.read() as session:
            rows = session.exec(wanted.order_by(col(ForecastRow.issued_at), col(ForecastRow.kind))).all()
        return tuple((forecast_id, issued_at) for forecast_id, issued_at in rows)


def _header(curve: DemandCurve) -> str:
    return dump_json(
        {
            "start": curve.start,
            "step_seconds": curve.step_seconds,
            "quantiles": curve.quantiles,
            "basis": curve.basis,
        }
    )


def _arrays(curve: DemandCurve) -> bytes:
    arrays = {"samples": curve.samples, **{f"part:{k}": v for k, v in curve.parts.items()}}
    if curve.mean is not None:
        arrays["mean"] = curve.mean
    return dump_arrays(arrays)


def _curve(row: ForecastRow) -> DemandCurve:
    header, arrays = load_json(row.header), load_arrays(row.data)
    return DemandCurve(
        pool=row.pool,
        issued_at=row.issued_at,
        start=datetime.fromisoformat(header["start"]),
        step_seconds=header["step_seconds"],
        samples=arrays["samples"],
        mean=arrays.get("mean"),
        parts={k.removeprefix("part:"): v for k, v in arrays.items() if k.startswith("part:")},
        quantiles=tuple(header["quantiles"]),
        basis=header["basis"],
    )
