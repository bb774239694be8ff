"""Whether a challenger becomes champion: on evidence, and for what else it takes to go on sensibly."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from preprov.demand.watching.beside import Beside
from preprov.demand.watching.bootstrap import p_no_better

NOMINAL: Final = 0.8


@dataclass(frozen=True)
class PromotionRule:
    """What is asked of a challenger.

    Attributes:
        p: below which it counts as better (paired bootstrap over the common origins).
        coverage: how far its central 80 % interval may be from covering 80 %.
        least: origins below which nothing is compared.
        clearly_worse: where the champion has to go anyway, the p above which the challenger is worse, if its loss is
            also more than `as_good` times the champion's.
        old_days: age from which a champion gives way to a refit that is not worse.
    """

    p: float = 0.1
    coverage: float = 0.05
    least: int = 5
    clearly_worse: float = 0.9
    as_good: float = 1.02
    old_days: float = 28.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision. p: None if there was nothing to compare."""

    promote: bool
    reason: str
    p: float | None = None


def judge(
    compared: Beside,
    *,
    collapsed: str = "",
    thin: str = "",
    age_days: float = 0.0,
    rule: PromotionRule | None = None,
    seed: int = 0,
) -> Verdict:
    """Decide.

    Args:
        compared: both at the same origins.
        collapsed: why the champion has collapsed, "" if it has not. thin: why the champion rests on too little history
            while the challenger rests on more, "" if that is not so.
        age_days: of the champion.
        rule, seed: of the bootstrap.
    """
    asked = rule or PromotionRule()
    if len(compared.origins) < asked.least:
        few = f"{len(compared.origins)} common origins are too few to compare"
        return Verdict(bool(thin), f"{few}; {thin}" if thin else f"{few}: the champion stays")
    p = p_no_better(compared.champion, compared.challenger, seed=seed)
    covered = (compared.coverage or {}).get("challenger_80", float("nan"))
    change = _change(compared)
    told = f"{change} over {len(compared.origins)} origins (p {p:.3f}), its 80 % interval covered {covered:.0%}"
    off = abs(covered - NOMINAL)
    if p < asked.p and off <= asked.coverage:
        return Verdict(True, f"better: {told}", p)
    cause = collapsed or thin or (f"the champion is {age_days:.0f} days old" if age_days > asked.old_days else "")
    if cause and _not_worse(compared, p, asked):
        return Verdict(True, f"{cause}, and the challenger is not worse: {told}", p)
    if p < asked.p:
        return Verdict(False, f"better, but not calibrated: {told}", p)
    return Verdict(False, f"not better: {told}", p)


def _not_worse(compared: Beside, p: float, asked: PromotionRule) -> bool:
    """No clear loss against the champion, and no interval that is further off than the champion's own."""
    coverage = compared.coverage or {}
    off, before = (abs(coverage.get(f"{who}_80", NOMINAL) - NOMINAL) for who in ("challenger", "champion"))
    as_good = np.sum(compared.challenger) <= asked.as_good * np.sum(compared.champion)
    return bool(as_good or p <= asked.clearly_worse) and off <= max(asked.coverage, before + 0.02)


def _change(compared: Beside) -> str:
    before, after = float(np.mean(compared.champion)), float(np.mean(compared.challenger))
    if before <= 0:
        return "the champion made no loss" if after <= 0 else "the champion made no loss, the challenger did"
    share = after / before - 1
    return f"{abs(share):.1%} {'less' if share < 0 else 'more'} loss than the champion"
