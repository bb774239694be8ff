"""What was promised to a pool's owner, to be held against what came."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Promise:
    """What a policy would have done on the pool's own past days, per day: what may be expected of the days to come.

    Attributes:
        policy, objective: who decides, and what for, in words: "hit rate 0.99", "1 USD per core-hour of waiting".
        since, until: the past days it was played on. instances: task instances judged in them.
        usd_per_day, idle_usd_per_day: None if a price is not known.
        warm_hit_ratio: share of instances with no provision wait. wait_*: provision wait, seconds.
        land_by_met: share of the runs with a time to land by that had ended; None = there were none.
    """

    promise_id: str
    pool: str
    at: datetime
    policy: str
    objective: str
    since: datetime
    until: datetime
    instances: int
    node_hours_per_day: float
    usd_per_day: float | None
    idle_usd_per_day: float | None
    warm_hit_ratio: float | None
    wait_mean_s: float | None
    wait_p95_s: float | None
    land_by_met: float | None = None
