"""How the policy `preprov` is played, where that is not how `preprov up` runs it."""

from collections.abc import Iterator
from dataclasses import dataclass

from preprov.replay.production import ALONE_S, HORIZON_S, PLAN_S, REACT_S, SAMPLES
from preprov.replay.yardstick import Case


@dataclass(frozen=True)
class Pace:
    """How often, and from how much.

    Attributes:
        plan_every_s: between two plans; `preprov up` makes one every minute, and when runs come.
        react_every_s: between two looks in between; None = it goes by plans alone.
        look_ahead_s, samples: of a plan.
        notes: what else is not as where the pool is run, for people.
    """

    plan_every_s: float
    react_every_s: float | None
    look_ahead_s: int
    samples: int
    notes: tuple[str, ...]

    def words(self) -> str:
        """A sentence."""
        react = "goes by plans alone" if self.react_every_s is None else f"reacts every {self.react_every_s:g} s"
        return (
            f"preprov as played plans every {self.plan_every_s / 60:g} min, {self.look_ahead_s / 3600:g} h ahead from "
            f"{self.samples} samples, and {react}; `preprov up` plans every minute and when runs come"
        )


def pace_of(case: Case) -> Pace:
    """Of ours in this case."""
    own = case.installation
    return Pace(
        PLAN_S if own.reacts else ALONE_S,
        REACT_S if own.reacts else None,
        min(case.pool.horizon_s, own.look_ahead_s or HORIZON_S),
        own.samples or SAMPLES,
        tuple(_notes(case)),
    )


def _notes(case: Case) -> Iterator[str]:
    pool, own = case.pool, case.installation
    shared = {limit.name: sorted(limit.members - {pool.name}) for limit in own.limits}
    for name, others in sorted(shared.items()):
        if others:
            yield f"limit {name} is shared with {', '.join(others)}: played as if these had nothing of it"
    for g in pool.groups:
        if len(g.offerings) > 1:
            first = g.offerings[0].instance_type
            yield f"group {g.name}: lead times and standby prices of {first} stand for all its offerings"
    if own.account is not None:
        yield "what the account limits is played as if other pools had nothing of it"
    guards, account = pool.guards, own.account
    money = (
        *(guards.max_usd_per_hour, guards.max_usd_per_day, guards.max_launches_per_minute),
        *(() if account is None else (account.max_usd_per_hour, account.max_usd_per_day)),
        *(limit.max_usd_per_day for limit in own.limits),
    )
    if any(m is not None for m in money):
        yield "limits on money and on launches a minute bind preprov alone; the other policies know nothing of them"
