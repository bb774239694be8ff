"""Observed against forecast: the plan is revised both ways, and the deviation is said."""

from dataclasses import dataclass

from preprov.control.context import Context
from preprov.control.passes import PassResult, pool_pass
from preprov.model.pools import Pool
from preprov.model.resources import KINDS, Resources


@dataclass(frozen=True)
class Adjustment:
    """How the pool's demand now compares with what was forecast for this hour.

    Attributes:
        observed: what runs and waits. forecast: median; None if none was issued for now.
        share: where the observed cores stand: "below", "within" or "above" the forecast's 5 to 95 % band.
    """

    observed: Resources
    forecast: Resources | None
    share: str
    result: PassResult

    @property
    def revised(self) -> tuple[str, ...]:
        """The reasons of the actions taken."""
        return tuple(r.action.reason for r in self.result.records if r.result == "done")


def adjust(ctx: Context, pool: Pool) -> Adjustment:
    """One pass with the demand as it is now, set against the last forecast issued."""
    now = ctx.clock.now()
    issued = ctx.ports.forecasts.latest(pool.name, now)
    result = pool_pass(ctx, pool)
    observed = _observed(ctx, pool, result)
    if issued is None or not issued[1].start <= now < issued[1].end:
        return Adjustment(observed, None, "no forecast", result)
    curve = issued[1]
    low, high = curve.at(0.05, now), curve.at(0.95, now)
    share = "above" if observed.cpu > high.cpu else "below" if observed.cpu < low.cpu else "within"
    return Adjustment(observed, curve.at(0.5, now), share, result)


def _observed(ctx: Context, pool: Pool, result: PassResult) -> Resources:
    rows = ctx.ports.history.snapshots(pool.name, since=result.observation.at)
    if not rows:
        return Resources()
    last = rows[-1]
    return Resources.of([getattr(last.used, k) + getattr(last.waiting, k) for k in KINDS])
