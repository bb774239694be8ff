"""ScalerModel: the learnt part of demand. Members, mixed by their record, calibrated, with joint sample paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np

from preprov.demand.forecasting import aggregation, calibration, paths, registry
from preprov.demand.forecasting.aggregation import MixSettings
from preprov.demand.forecasting.calibration import CalibrationSettings
from preprov.demand.forecasting.explain import importances, moved
from preprov.demand.forecasting.member import FittedMember, Member
from preprov.demand.forecasting.quantiles import GRID, at_levels, uncross
from preprov.demand.forecasting.track import Track, said_at
from preprov.demand.forecasting.view import Floats, Ints, View
from preprov.demand.keeping import digest_of
from preprov.model.errors import ForecastError
from preprov.model.series import SeriesHistory

QUANTILES: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class ScalerConfig:
    """What a scaler is made of.

    Attributes:
        members: names known to the registry. horizon: steps ahead that members learn.
        country: ISO code whose holidays count (CH, US-CA), or None.
        max_days: history looked at. min_days: known days below which a forecast is marked as a fallback.
        learn_days: known days below which only naive members speak, the last value first among them.
        track_days: past daily origins replayed when a model starts without a record. fold_days: between refits in that
            replay; a history shorter than twice the record is refitted weekly: what it can learn changes by the day.
        track_limit: origins kept. samples: joint paths drawn.
        effort, mix, calibration: of the trees, the weights and the intervals; see there.
    """

    members: tuple[str, ...] = registry.DEFAULT
    horizon: int = 24
    country: str | None = None
    max_days: int = 400
    min_days: float = 28.0
    learn_days: float = 10.0
    track_days: int = 56
    fold_days: int = 28
    track_limit: int = 150
    samples: int = 200
    effort: registry.Effort = field(default_factory=registry.Effort)
    mix: MixSettings = field(default_factory=MixSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


@dataclass(frozen=True, eq=False)
class LearntForecast:
    """A forecast of the steps after `issued_at`.

    Attributes:
        values: (H, Q) quantiles, non-decreasing along Q. samples: (S, H) joint paths with these marginals: take maxima
            and differences inside them. quantiles: the Q levels.
        coverage: of past forecasts of this very model, out of sample: "80" and "90" -> share, "points" -> how many.
        weights: member -> its share, averaged over the horizon. fallback_reason: why this rests on too little, or None.
        left_out: member -> why it has no part. importances: feature -> share of the forest's splits' gain.
        top_features: per step, the features that moved the forest most from its average, with the signed effect.
    """

    name: str
    issued_at: datetime
    step_seconds: int
    quantiles: tuple[float, ...]
    values: Floats
    samples: Floats
    coverage: Mapping[str, float]
    weights: Mapping[str, float]
    fallback_reason: str | None
    left_out: Mapping[str, str]
    importances: Mapping[str, float]
    top_features: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True, eq=False)
class Record:
    """What a model said out of sample, mixed and calibrated with what was known before each origin, and what came.

    Attributes:
        origins: (O,) number, since the epoch, of the last step known. came: (O, H), NaN = unknown or quarantined.
        said: (O, H, G) on the inner grid.
    """

    origins: Ints
    came: Floats
    said: Floats


@dataclass(frozen=True, eq=False)
class ScalerModel:
    """A fitted scaler of one series. Make it with `fit`, ask it with `predict`, keep it with `storage.to_bytes`.

    Attributes:
        members: name -> fitted member. track: what members said before, out of sample.
        trained_until: number, since the epoch, of the last step learnt from. exogenous: columns seen beside the demand.
    """

    name: str
    step_seconds: int
    config: ScalerConfig
    seed: int
    trained_until: int
    members: Mapping[str, FittedMember]
    track: Track
    fallback_reason: str | None
    left_out: Mapping[str, str]
    exogenous: tuple[str, ...] = ()
    _last: dict[bytes, LearntForecast] = field(init=False, repr=False, default_factory=dict)

    @classmethod
    def fit(
        cls,
        history: SeriesHistory,
        config: ScalerConfig | None = None,
        seed: int = 0,
        *,
        previous: "ScalerModel | None" = None,
        forecasters: registry.Factories | None = None,
    ) -> "ScalerModel":
        """Learn from a history.

        Args:
            history: the series until now; steps quarantined in it are not learnt from.
            config: see there. seed: the same seed and history give the same model, bit for bit.
            previous: the model in use until now: its record goes on, which saves the replay of the past.
            forecasters: third parties' members in config.members that are not installed as an entry point.

        Raises:
            ForecastError: not one known step.
        """
        settings = config or ScalerConfig()
        view = _view(history, settings)
        known_days = float(view.learnable.sum()) / view.per_day
        wanted, reason = _by_length(known_days, settings)
        chosen = registry.members(wanted, forecasters, steps_per_day=view.per_day, effort=settings.effort)
        names = tuple(m.name for m in chosen)
        fitted, left_out = _fit_all(chosen, view, settings.horizon, seed)
        if not fitted:
            names, chosen = ("last",), registry.members(("last",))
            fitted, _ = _fit_all(chosen, view, settings.horizon, seed)
            reason = reason or "no member could be fitted: last value only"
        track = _continued(previous, view, names, settings)
        if track is None:
            track = _replayed(chosen, view, names, settings, seed)
        until = view.base + len(view) - 1
        return cls(
            history.name,
            history.step_seconds,
            settings,
            seed,
            until,
            fitted,
            track.last(settings.track_limit),
            reason,
            left_out,
            tuple(history.exogenous),
        )

    def predict(
        self, history: SeriesHistory, horizon_steps: int | None = None, quantiles: Sequence[float] = QUANTILES
    ) -> LearntForecast:
        """Forecast the steps after the end of `history`, the series of `fit` or a longer stretch of it.

        Asked the same again (within an hour the history does not change), it gives the same again.

        Raises:
            ForecastError: the history has another step, ends before the model's, or holds no known step.
        """
        horizon = self.config.horizon if horizon_steps is None else horizon_steps
        asked = _question(history, horizon, quantiles)
        answer = self._last.get(asked)
        if answer is None:
            answer = self._predict(history, horizon, quantiles)
            self._last.clear()
            self._last[asked] = answer
        return answer

    def _predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> LearntForecast:
        view = self._checked(history, horizon)
        track = self._caught_up(view)
        blocks = aggregation.block_of(track.horizon, view.per_day)
        learnt = aggregation.learn(track, blocks, self.config.mix)
        here = np.array([len(view) - 1])
        said = said_at(view, self.members, track.names, here, horizon)[0].astype(np.float64)
        weights = aggregation.restrict(learnt.weights, np.isfinite(said).all(axis=(1, 2)))
        ahead = aggregation.block_of(horizon, view.per_day)
        settled = calibration.learn(track.came, learnt.said, blocks, self.config.calibration)
        floor = _floor(view)
        inner = uncross(settled.apply(aggregation.mix(weights, said, ahead), ahead), floor=floor)
        levels = paths.levels_of(track.came.ravel(), settled.said.reshape(-1, len(GRID))).reshape(track.came.shape)
        order = paths.templates(levels, view, horizon)
        samples = paths.sample_paths(inner, order, self.config.samples, self.seed)
        return LearntForecast(
            name=self.name,
            issued_at=history.end,
            step_seconds=self.step_seconds,
            quantiles=tuple(quantiles),
            values=uncross(at_levels(inner, GRID, quantiles), floor=floor),
            samples=samples if floor is None else np.maximum(samples, floor),
            coverage=calibration.coverage(track.came, settled.said),
            weights={n: float(w) for n, w in zip(track.names, weights[ahead].mean(axis=0), strict=True)},
            fallback_reason=self.fallback_reason,
            left_out=self.left_out,
            importances=importances(self.members, view),
            top_features=moved(self.members, view, horizon),
        )

    def caught_up(self, history: SeriesHistory) -> "ScalerModel":
        """The same model with the days since its fit in its record.

        Raises:
            ForecastError: as `predict`.
        """
        return replace(self, track=self._caught_up(self._checked(history, self.config.horizon)))

    def asked(self, history: SeriesHistory, origins: Ints) -> "ScalerModel":
        """The same model with more origins in its record: numbers of the steps after which it is asked.

        Raises:
            ForecastError: as `predict`; or an origin lies before the end of the fit.
        """
        view = self._checked(history, self.config.horizon)
        if len(origins) and int(origins[0]) < self.trained_until:
            raise ForecastError("the model has learnt from steps after the origin it is asked at", where=self.name)
        return replace(self, track=self.track.extended(view, self.members, origins - view.base))

    def record(self) -> Record:
        """What this model said at the origins of its record, out of sample, to be set against what another said."""
        blocks = aggregation.block_of(self.track.horizon, 86_400 // self.step_seconds)
        mixed = aggregation.learn(self.track, blocks, self.config.mix)
        settled = calibration.learn(self.track.came, mixed.said, blocks, self.config.calibration)
        return Record(self.track.origins, self.track.came, settled.said)

    def _checked(self, history: SeriesHistory, horizon: int) -> View:
        if horizon < 1:
            raise ForecastError("the horizon must be at least one step", where=self.name)
        if history.step_seconds != self.step_seconds:
            steps = f"{self.step_seconds} s, not {history.step_seconds}"
            raise ForecastError(f"the model has steps of {steps}", where=self.name)
        view = _view(history, self.config)
        if tuple(history.exogenous) != self.exogenous:
            expected = ", ".join(self.exogenous) or "nothing"
            raise ForecastError(f"the model was fitted with {expected} beside the demand", where=self.name)
        if view.base + len(view) - 1 < self.trained_until:
            raise ForecastError(
                "the model has learnt from later steps than this history holds",
                where=self.name,
                hint="give the whole history, or fit a model on this one",
            )
        return view

    def _caught_up(self, view: View) -> Track:
        """The record with the origins that have passed since the fit: the members are out of sample there."""
        step = view.per_day
        start = max(self.trained_until, int(self.track.origins[-1]) + step if len(self.track) else self.trained_until)
        stop = view.base + len(view) - self.track.horizon
        positions = np.arange(start, stop, step, dtype=np.int64) - view.base
        longer = self.track.extended(view, self.members, positions[positions >= 0])
        return longer.last(self.config.track_limit)


def _question(history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> bytes:
    """Digest of all that an answer hangs on."""
    about = (history.name, history.zone, history.step_seconds, history.start, horizon, tuple(quantiles))
    marks = [] if history.quarantined is None else [history.quarantined]
    return digest_of(about, history.values, *marks, *history.exogenous.values())


def _view(history: SeriesHistory, config: ScalerConfig) -> View:
    limit = config.max_days * history.per_day
    known = np.flatnonzero(np.isfinite(history.values))
    if not len(known):
        raise ForecastError("not one step of the history is known", where=history.name, hint="ingest some demand first")
    first = max(int(known[0]), len(history) - limit)
    return View(history.window(first, len(history)) if first else history, config.country)


def _floor(view: View) -> float | None:
    """Demand is never negative; a series that has been (a residual) may be again."""
    return 0.0 if np.nanmin(view.raw) >= 0 else None


def _by_length(known_days: float, config: ScalerConfig) -> tuple[tuple[str, ...], str | None]:
    """The members that a history of this length allows, and why it is a fallback, if it is one."""
    if known_days >= config.min_days:
        return config.members, None
    reason = f"{known_days:.1f} days of history, {config.min_days:g} are needed"
    if known_days >= config.learn_days:
        return config.members, f"{reason}: members count as far as they have beaten the last value so far"
    naive = tuple(n for n in config.members if n in registry.NAIVE) or ("last",)
    return naive, f"{reason}: last value and other naive members only"


Fitted = tuple[dict[str, FittedMember], dict[str, str]]


def _fit_all(chosen: list[Member], view: View, horizon: int, seed: int) -> Fitted:
    fitted: dict[str, FittedMember] = {}
    left_out: dict[str, str] = {}
    known = float(view.learnable.sum()) / view.per_day
    for number, member in enumerate(chosen):
        if known < member.min_days():
            left_out[member.name] = f"needs {member.min_days():g} days of known steps, there are {known:.1f}"
            continue
        try:
            fitted[member.name] = member.fit_view(view, horizon, seed + number)
        except ForecastError as error:
            left_out[member.name] = error.what
    return fitted, left_out


def _continued(previous: ScalerModel | None, view: View, names: tuple[str, ...], config: ScalerConfig) -> Track | None:
    """The previous model's record up to now, if it is of the same series, members and horizon."""
    if previous is None or previous.config != config or previous.track.names != names:
        return None
    if (previous.name, previous.exogenous) != (view.history.name, tuple(view.history.exogenous)):
        return None
    if not (view.base <= previous.trained_until < view.base + len(view)):
        return None
    return previous._caught_up(view)


def _replayed(chosen: list[Member], view: View, names: tuple[str, ...], config: ScalerConfig, seed: int) -> Track:
    """A record made by going back: members fitted at earlier cutoffs forecast the days that follow each of them."""
    track = Track.empty(names, config.horizon)
    day = view.per_day
    # Whole days back, so that past forecasts begin at the same time of day as the next one.
    last = len(view) - 1 - day * -(-config.horizon // day)
    room = max(0, (last - day) // day)
    days = min(config.track_days, room)
    if days < 1:
        return track
    positions: Ints = last - day * np.arange(days - 1, -1, -1, dtype=np.int64)
    span = config.fold_days if len(view) >= 2 * config.track_days * day else min(7, config.fold_days)
    for part in np.array_split(positions, -(-days // span)):
        known = view.history.window(0, int(part[0]) + 1)
        if not np.isfinite(known.values).any():
            continue
        fitted, _ = _fit_all(chosen, View(known, config.country), config.horizon, seed)
        track = track.extended(view, fitted, part)
    return track
