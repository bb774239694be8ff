"""A challenger beside the champion: fitted, backtested on equal origins, promoted or not, all of it recorded."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
import structlog

from preprov.contracts import ModelVersion
from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND
from preprov.demand.forecasting.scaler import ScalerConfig, ScalerModel
from preprov.demand.inputs import DemandInputs
from preprov.demand.learnt import fit_learnt, learnt_config, teaching
from preprov.demand.learnt_model import LearntModel
from preprov.demand.watching.beside import Beside, beside
from preprov.demand.watching.promotion import Verdict, judge
from preprov.model.errors import ConfigError, ForecastError, StoreError, UnsafeModelError
from preprov.model.learning import BacktestRecord, Promotion
from preprov.model.plans import stable_id
from preprov.model.pools import Pool
from preprov.model.series import SeriesHistory
from preprov.model.time import from_epoch

log = structlog.get_logger(__name__)

NEWEST: Final = "newest"
_KEPT: Final = 12


@dataclass(frozen=True)
class Challenge:
    """What came of it.

    Attributes:
        challenger: as stored. champion: in use afterwards. learnt: the model in use afterwards.
        record: the backtest with the decision.
    """

    challenger: ModelVersion
    champion: ModelVersion
    learnt: LearntModel
    record: BacktestRecord


def challenge(
    ctx: Context,
    pool: Pool,
    given: DemandInputs,
    *,
    cause: str,
    collapsed: str = "",
    config: ScalerConfig | None = None,
) -> Challenge:
    """Fit a design on what is known now, and let it take the champion's place if the evidence says so.

    Args:
        ctx: the context. pool: the pool.
        given: what is known now, quarantined days named.
        cause: why now, for the record. collapsed: why the champion has collapsed, "" if it has not.
        config: the design; None = the default one.
    """
    at = ctx.clock.now()
    config = config or learnt_config(given)
    before, model, broken = _champion(ctx, pool)
    learnt = fit_learnt(given, config, previous=model)
    version = ctx.ports.models.save(
        pool.name, LEARNT_KIND, learnt.format, learnt.to_bytes(), at=at, metrics=learnt.metrics, reason=cause
    )
    learnt = replace(learnt, version=version.version)
    if version.champion or before is None:
        compared, verdict = Beside(), Verdict(True, "the first model")
    else:
        rivals = _Rivals(model, learnt, broken, collapsed)
        compared, verdict = _compared(given, rivals, config)
    record = BacktestRecord(
        backtest_id=stable_id(pool.name, "backtest", version.version, at.isoformat()),
        pool=pool.name,
        kind=LEARNT_KIND,
        at=at,
        champion=before.version if before else "",
        challenger=version.version,
        origins=compared.origins,
        champion_loss=compared.champion,
        challenger_loss=compared.challenger,
        coverage={k: v for k, v in (compared.coverage or {}).items() if np.isfinite(v)},
        p=verdict.p,
        promoted=verdict.promote,
        reason=verdict.reason,
        cause=cause,
    )
    ctx.ports.learning.save_backtest(record)
    if verdict.promote:
        version = ctx.ports.models.promote(
            version.version, at=at, reason=verdict.reason, backtest_id=record.backtest_id, actor=ctx.actor
        )
    _tidy(ctx, pool)
    _forget(ctx, pool)
    log.info(
        "challenge", pool=pool.name, version=version.version, promoted=verdict.promote, cause=cause, why=verdict.reason
    )
    if verdict.promote or before is None or model is None:
        return Challenge(version, version, learnt, record)
    return Challenge(version, before, model, record)


def promote(ctx: Context, pool: Pool, version: str, reason: str) -> ModelVersion:
    """A person makes a version champion; `NEWEST` is the one fitted last.

    Raises:
        ConfigError: the pool has no such version. UnsafeModelError: it cannot be read.
    """
    chosen = _version(ctx, pool, version)
    held = ctx.ports.models.load(pool.name, LEARNT_KIND, chosen.version)
    if held is not None:
        LearntModel.from_bytes(held[1])  # what cannot be read is not put in charge
    made = ctx.ports.models.promote(chosen.version, at=ctx.clock.now(), reason=reason, actor=ctx.actor)
    _forget(ctx, pool)
    return made


def rollback(ctx: Context, pool: Pool, reason: str) -> ModelVersion:
    """The champion before the present one is champion again; once more, and it is the one before that.

    Raises:
        ConfigError: there was none before.
    """
    history = ctx.ports.models.promotions(pool.name, LEARNT_KIND)
    before = previous_champion(history)
    if not before:
        raise ConfigError(
            "there is no champion before this one", where=pool.name, hint=f"preprov model list --pool {pool.name}"
        )
    made = ctx.ports.models.promote(before, at=ctx.clock.now(), reason=reason, actor=ctx.actor, rollback=True)
    _forget(ctx, pool)
    return made


def previous_champion(history: tuple[Promotion, ...]) -> str:
    """The version that the present champion took the place of, rollbacks set aside; "" if there was none.

    Args:
        history: promotions, newest first.
    """
    if not history:
        return ""
    present = history[0].version
    return next((p.before for p in history if p.version == present and not p.rollback), "")


def promoted_at(ctx: Context, pool: Pool) -> datetime | None:
    """When the present champion took its place; None if there is none."""
    history = [p for p in ctx.ports.models.promotions(pool.name, LEARNT_KIND) if p.at <= ctx.clock.now()]
    return history[0].at if history else None


def _version(ctx: Context, pool: Pool, name: str) -> ModelVersion:
    of_pool = [v for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND]
    if name == NEWEST and of_pool:
        return of_pool[0]
    found = [v for v in of_pool if v.version == name] or [v for v in of_pool if name and name in v.version]
    if len(found) != 1:
        what = "no" if not found else "more than one"
        raise ConfigError(
            f"{what} model version {name!r}", where=pool.name, hint=f"preprov model list --pool {pool.name}"
        )
    return found[0]


def _champion(ctx: Context, pool: Pool) -> tuple[ModelVersion | None, LearntModel | None, str]:
    """The champion, what it is, and why it cannot be read if it cannot."""
    try:
        held = ctx.ports.models.load(pool.name, LEARNT_KIND)
        if held is None:
            return None, None, ""
        return held[0], LearntModel.from_bytes(held[1], version=held[0].version), ""
    except UnsafeModelError as error:
        standing = [v for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND and v.champion]
        if not standing:
            raise StoreError(error.what, where=pool.name, hint=error.hint) from error
        return standing[0], None, error.what


@dataclass(frozen=True)
class _Rivals:
    """Champion (None = it cannot be read, and `broken` says why) and challenger; why the champion collapsed, or ""."""

    champion: LearntModel | None
    challenger: LearntModel
    broken: str
    collapsed: str


def _compared(given: DemandInputs, rivals: _Rivals, config: ScalerConfig) -> tuple[Beside, Verdict]:
    champion, challenger = rivals.champion, rivals.challenger
    if champion is None:
        return Beside(), Verdict(True, f"the champion cannot be read: {rivals.broken}")
    if challenger.scaler is None:
        return Beside(), Verdict(False, f"nothing could be learnt: {challenger.reason}")
    if champion.scaler is None:
        return Beside(), Verdict(True, f"the champion had learnt nothing: {champion.reason}")
    if (champion.kind, champion.source) != (challenger.kind, challenger.source):
        was, now = (f"{m.kind} from {m.source}" for m in (champion, challenger))
        return Beside(), Verdict(True, f"the champion forecasts {was}, the pool now goes by {now}")

    def fit(history: SeriesHistory, previous: ScalerModel | None) -> ScalerModel:
        return ScalerModel.fit(history, config, given.seed, previous=previous)

    try:
        compared = beside(champion.scaler, fit, teaching(given).history)
    except ForecastError as error:
        return Beside(), Verdict(True, f"the champion cannot be asked any more: {error.what}")
    trained = from_epoch((champion.scaler.trained_until + 1) * champion.scaler.step_seconds)
    age = (given.at - trained).total_seconds() / 86_400
    thin = _thin(champion.scaler, challenger.scaler)
    return compared, judge(compared, collapsed=rivals.collapsed, thin=thin, age_days=age, seed=given.seed)


def _thin(champion: ScalerModel, challenger: ScalerModel) -> str:
    """Why the champion rests on too little while the challenger rests on more; "" if that is not so."""
    longer = challenger.trained_until > champion.trained_until
    return f"the champion was learnt from too little ({champion.fallback_reason})" * bool(
        champion.fallback_reason and longer
    )


def _tidy(ctx: Context, pool: Pool) -> None:
    """Keep the newest versions and the champions that a rollback may want; a version takes megabytes."""
    keep = {p.version for p in ctx.ports.models.promotions(pool.name, LEARNT_KIND)[:_KEPT]}
    versions = [v.version for v in ctx.ports.models.versions(pool.name) if v.kind == LEARNT_KIND]
    ctx.ports.models.forget([v for v in versions[_KEPT:] if v not in keep])


def _forget(ctx: Context, pool: Pool) -> None:
    """The next pass asks the store which model is in use."""
    ctx.memo.pop((pool.name, "learnt"), None)
