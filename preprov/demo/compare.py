"""The same slice, played by other policies on the replay core, beside what happened live."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist, median
from types import MappingProxyType
from typing import Final

import numpy as np

from preprov.contracts import LeadObservation, ModelVersion
from preprov.demo.live import PLAN_S
from preprov.demo.recorder import Recorder
from preprov.demo.scene import POOL, Scene
from preprov.demo.workload import PlannedRun, work_table
from preprov.model.offerings import LeadTime, Standby
from preprov.model.pools import Group, Pool
from preprov.model.work import task_of
from preprov.model.worktable import WorkTable
from preprov.replay.engine import replay
from preprov.replay.policy import Setting
from preprov.replay.production import Preprov
from preprov.replay.registry import make_policy
from preprov.replay.result import ReplayResult, weighted_quantiles

POLICIES: Final = ("preprov", "reactive", "always-on", "clairvoyant")
LIVE: Final = "preprov live"
CLOSE: Final = 0.2
"""Live and replayed agree if cost and node-hours differ by at most this share …"""
CLOSE_S: Final = 15.0
"""… and the mean provision wait by at most this many seconds."""
_ENOUGH: Final = 3
_Z95: Final = NormalDist().inv_cdf(0.95)
_BEFORE: Final = timedelta(minutes=20)
_TICK_S: Final = 10.0


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        wait_*: provision wait of task instances, seconds. warm_hits: share of them that did not wait for a node.
        waits: of each instance. usd, idle_usd: None if a price is not known.
    """

    name: str
    instances: int
    wait_mean_s: float
    wait_p50_s: float
    wait_p95_s: float
    warm_hits: float
    node_hours: float
    idle_usd: float | None
    usd: float | None
    waits: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "policy": self.name,
            "instances": self.instances,
            "wait_mean_s": _finite(self.wait_mean_s),
            "wait_p50_s": _finite(self.wait_p50_s),
            "wait_p95_s": _finite(self.wait_p95_s),
            "warm_hit_ratio": _finite(self.warm_hits),
            "node_hours": self.node_hours,
            "idle_cost_usd": self.idle_usd,
            "cost_usd": self.usd,
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far live and replayed preprov are apart: shares of the replayed figures, and seconds."""

    usd: float
    node_hours: float
    wait_mean_s: float

    @property
    def close(self) -> bool:
        """True if they agree."""
        shares = (abs(self.usd), abs(self.node_hours))
        return all(s <= CLOSE for s in shares) and abs(self.wait_mean_s) <= CLOSE_S

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "cost_usd": _finite(self.usd),
            "node_hours": _finite(self.node_hours),
            "wait_mean_s": _finite(self.wait_mean_s),
            "within": self.close,
        }


def live_outcome(recorder: Recorder, pool: Pool, scene: Scene) -> Outcome:
    """What happened on the real nodes."""
    waits = np.array([i.wait_s for i in recorder.instances()])
    bill = recorder.bill(pool, scene.start, scene.end)
    _, worth = recorder.used_worth(pool, scene.start, scene.end)
    mean, warm = (float(waits.mean()), float((waits <= 0).mean())) if len(waits) else (math.nan, math.nan)
    p50, p95 = weighted_quantiles(waits, np.ones(len(waits)), (0.5, 0.95))
    return Outcome(
        LIVE,
        len(waits),
        mean,
        p50,
        p95,
        warm,
        bill.node_hours,
        None if bill.usd is None else bill.usd - worth,
        bill.usd,
        tuple(waits.tolist()),
    )


@dataclass(frozen=True)
class Trace:
    """What the policies are played on.

    Attributes:
        history: before the slice. tonight: the slice, as recorded. pool: with the lead times that were seen.
        model: the learnt part of the forecast, as the live controller had it; None = a replay fits its own.
    """

    history: WorkTable
    tonight: Sequence[PlannedRun]
    pool: Pool
    model: tuple[ModelVersion, bytes] | None = None


def replayed(scene: Scene, trace: Trace, names: Sequence[str] = POLICIES) -> list[Outcome]:
    """Play the slice under each policy: the same work, nodes, prices and lead times."""
    work = WorkTable.concat([trace.history, work_table(trace.tonight, scene.specs, scene.company.zone)])
    out = []
    for name in names:
        # a pool that is always on was on before; the others begin the slice with nothing, as the live one does
        before = _BEFORE if name == "always-on" else timedelta(0)
        result = replay(
            work,
            trace.pool,
            _Tonight(trace.model) if name == "preprov" else make_policy(name),
            judged_from=scene.start,
            until=scene.end,
            schedules=scene.workload.schedules(POOL),
            seed=scene.seed,
            warm_up_s=before.total_seconds(),
        )
        out.append(_outcome(name, result))
    return out


class _Tonight(Preprov):
    """The policy preprov with the live controller's rhythm and its model."""

    def __init__(self, model: tuple[ModelVersion, bytes] | None) -> None:
        super().__init__(every_s=PLAN_S, tick_s=_TICK_S)
        self._model = model

    def prepare(self, setting: Setting) -> None:
        """Wire everything, and hand the model in."""
        super().prepare(setting)
        if self._model is not None:
            version, blob = self._model
            self.ctx.ports.models.save(
                POOL, version.kind, version.format, blob, at=version.created_at, metrics=version.metrics
            )


def as_recorded(tonight: Sequence[PlannedRun], recorder: Recorder) -> tuple[PlannedRun, ...]:
    """The runs with the times they really took: from ready to ended, less the wait for a node.

    What a busy machine adds to a program's runtime is in it, so that all policies are compared on the night as it was.
    A task that was not seen to its end keeps the time it was meant to take.
    """
    seen: dict[tuple[str, str], float] = {}
    began: dict[str, datetime] = {}
    for i in recorder.instances():
        key = run, _ = task_of(i.claimant)
        began[run] = min(began.get(run, i.ready), i.ready)
        if i.ended is not None:
            seen[key] = max(seen.get(key, 0.0), (i.ended - i.ready).total_seconds() - i.wait_s)
    ids = {**{r.rpartition(".")[0]: r for r in began}, **{r: r for r in began}}
    return tuple(_recorded(r, ids.get(r.run_id, ""), seen, began) for r in tonight)


def _recorded(
    run: PlannedRun, run_id: str, seen: Mapping[tuple[str, str], float], began: Mapping[str, datetime]
) -> PlannedRun:
    if run_id not in began:
        return run
    seconds = [seen.get((run_id, t.name), s) for t, s in zip(run.shape.tasks, run.seconds.tolist(), strict=True)]
    return replace(run, submit=began[run_id], seconds=np.maximum(seconds, 0.1))


def _outcome(name: str, result: ReplayResult) -> Outcome:
    parts = result.per_instance
    waits = np.repeat(parts["provision_wait"].to_numpy(), parts["weight"].to_numpy().astype(int))
    w = result.waits
    return Outcome(
        name,
        w.instances,
        w.mean,
        w.p50,
        w.p95,
        w.warm,
        result.node_hours,
        result.idle_cost_usd,
        result.cost_usd,
        tuple(waits.tolist()),
    )


def agreement(live: Outcome, again: Outcome) -> Agreement:
    """Live against replayed."""
    usd = math.nan if live.usd is None or not again.usd else live.usd / again.usd - 1
    hours = live.node_hours / again.node_hours - 1 if again.node_hours else math.nan
    return Agreement(usd, hours, live.wait_mean_s - again.wait_mean_s)


def with_seen_leads(pool: Pool, seen: Sequence[LeadObservation]) -> Pool:
    """The pool with the lead times that its nodes really took, where some were seen."""
    return replace(pool, groups=tuple(_seen(g, seen) for g in pool.groups))


def _seen(group: Group, seen: Sequence[LeadObservation]) -> Group:
    lead = {s: group.lead_time(s) for s in (group.standby_states - {Standby.RUNNING}) | {Standby.COLD}}
    for state in lead:
        seconds = [o.seconds for o in seen if o.group == group.name and o.came_from is state and o.outcome == "ready"]
        if len(seconds) >= _ENOUGH:
            lead[state] = _fitted(seconds)
    return replace(group, lead=MappingProxyType(lead))


def _fitted(seconds: Sequence[float]) -> LeadTime:
    """Lognormal by median and the spread of the logarithms."""
    middle = max(median(seconds), 0.1)
    sigma = float(np.std(np.log(np.maximum(seconds, 0.1)), ddof=1))
    return LeadTime(middle, middle * math.exp(sigma * _Z95), len(seconds))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
