"""The policy `preprov`: the production control code on the store in memory, the simulated cloud, the virtual clock."""

import math
from dataclasses import replace
from datetime import timedelta
from time import thread_time
from typing import Final

import numpy as np

from preprov.control.context import Context
from preprov.control.demanding import LEARNT_KIND
from preprov.control.forecasting import issue_forecast
from preprov.control.gathering import current_leads, reacts
from preprov.control.observing import observe
from preprov.control.passes import pool_pass
from preprov.control.reacting import FRESH_S, carry_out, look_ahead, reaction, why_blocked
from preprov.control.soon import AGENDA_S, expected_turns
from preprov.model.errors import ForecastError
from preprov.model.pools import Pool
from preprov.model.resources import Resources
from preprov.model.time import floor_to, from_epoch
from preprov.model.work import Trigger
from preprov.model.worktable import Array, WorkTable
from preprov.planning.prices import TablePriceBook
from preprov.replay.engine import Binding
from preprov.replay.load import UNITS, US, most_nodes
from preprov.replay.ordering import LaunchOrder
from preprov.replay.policy import Order, Setting, View
from preprov.sim.ports import memory_ports
from preprov.sim.workstore import MemoryWorkStore

DAY: Final = timedelta(days=1)
SAMPLES: Final = 60
HORIZON_S: Final = 6 * 3600
PLAN_S: Final = 1800.0
ALONE_S: Final = 300.0
"""Between plans where nothing moves in between."""
REACT_S: Final = 5.0
_KEEP_PLANS: Final = 1000
_SLOT_S: Final = 300.0
_MINUTE_S: Final = 60.0


class Preprov:
    """Plans and reactions as `preprov up` makes them; what it may know is what the store shows at that instant.

    A plan is made every `every_s`; it looks six hours ahead: longer than keeping a node pays at the reference prices,
    unless the installation says otherwise. A reaction may be made every `tick_s`; a pool of unlike nodes, or one that
    does not react where it is run, goes by plans alone, five minutes apart. Forecasts are
    issued at the start and every day. While all nodes that there may be exist, what waits goes in launch order, unless
    `in_turn`. Knob: USD that a core-hour of waiting is worth.

    Attributes:
        solves: plans made. fallbacks: plans that name one. pass_seconds: CPU time of each five minutes, the engine
            in between (a fiftieth) included: asking for it at each tick costs more than most ticks.
    """

    name = "preprov"
    eager = False
    whole_pool = True

    def __init__(
        self,
        knob: float | None = None,
        *,
        every_s: float = PLAN_S,
        tick_s: float = REACT_S,
        samples: int = SAMPLES,
        horizon_s: int = HORIZON_S,
        in_turn: bool = False,
    ) -> None:
        self.knob = 1.0 if knob is None else knob
        self.tick_s = tick_s
        self.solves = 0
        self.fallbacks = 0
        self.pass_seconds: list[float] = []
        self._every_s = every_s
        self._samples = samples
        self._horizon_s = horizon_s
        self._in_turn = in_turn
        self._last = -math.inf
        self._forecast_at = -math.inf
        self._told_parts = 0
        self._looked = -math.inf
        self._slot = -1
        self._used_s = 0.0
        self._submitted = -1

    def bind(self, binding: Binding) -> None:
        """Take the stage: the trace goes into a store that shows no more than its submit times allow."""
        self._load, self._core, self._cloud, self._clock = binding.load, binding.core, binding.cloud, binding.clock
        self._store = MemoryWorkStore()
        self._work, self._memo = binding.work, binding.memo
        self._schedules = tuple(binding.schedules)
        self._own = binding.installation
        self._horizon_s, self._samples = self._own.look_ahead_s or self._horizon_s, self._own.samples or self._samples

    def prepare(self, setting: Setting) -> None:
        """Fill the store and wire the production context."""
        pool = replace(setting.pool, horizon_s=min(setting.pool.horizon_s, self._horizon_s))
        self._pool = _priced(pool, self.knob)
        played = np.zeros(len(self._work.runs), dtype=bool)
        played[self._work.tasks["run"].to_numpy()[self._load.rows]] = True
        seen = _as_played(self._work, played, setting.until, hide=not self._schedules)
        schedules = [replace(s, pool=self._pool.name) for s in self._schedules]
        self._store.preload(self._pool.name, seen, schedules, zone=self._pool.zone)
        self._tell_the_past(setting.start)
        self._submits = self._work.runs["submit"].to_numpy()
        self.ctx = Context(
            ports=memory_ports(self._store, keep_plans=_KEEP_PLANS),
            providers={"sim": self._cloud},
            schedulers={},
            prices=TablePriceBook.from_pools([self._pool]),
            clock=self._clock,
            pools={self._pool.name: self._pool},
            limits=self._own.limits,
            account=self._own.account,
            actor="replay",
            n_samples=self._samples,
            seed=setting.seed,
        )
        self._most = most_nodes(self._pool)
        self._order = LaunchOrder(self.ctx, self._pool, self._core, self._load)

    def tick(self, now: float, view: View) -> list[Order]:
        """A plan, if one is due; a reaction, if one may be; both act on the cloud themselves."""
        slot = int(now // _SLOT_S)
        if slot != self._slot:
            used = thread_time()
            if self._slot >= 0:
                self.pass_seconds.append(used - self._used_s)
            self._slot, self._used_s = slot, used
        if self._full() and view.waiting > 0:
            self._order.apply(now)
        alone = not (self._own.reacts and reacts(self.ctx, self._pool))
        every_s = min(self._every_s, ALONE_S) if alone else self._every_s
        planned = now - self._last >= every_s - 1e-3 or (alone and self._unforeseen(now, view))
        if not planned and (alone or not self._wakes(now, view)):
            return []
        if planned:
            self._last = now
            self._plan(now)
        if not alone and (not planned or self._wakes(now, view)):
            self._react(now)
        return []

    def _full(self) -> bool:
        return not self._in_turn and len(self._core.existing) >= self._most

    def _plan(self, now: float) -> None:
        self._tell()
        self._forecast(now)
        result = pool_pass(self.ctx, self._pool, serve=False, waiting=self._waiting(), react=False, order=self._full())
        self.solves += 1
        self.fallbacks += bool(result.plan and result.plan.fallback)

    def _wakes(self, now: float, view: View) -> bool:
        """True if a reaction could find something to do: runs came, the last look is old, nodes idle, work waits."""
        return self._stale(now) or bool(view.idle()) or (view.waiting > 0 and self._core.uncovered())

    def _stale(self, now: float) -> bool:
        """True if runs came since the last look, or it is old."""
        return now - self._looked >= FRESH_S - 1e-3 or self._came(now) != self._submitted

    def _came(self, now: float) -> int:
        return int(np.searchsorted(self._submits, now, side="right"))

    def _react(self, now: float) -> None:
        """What `preprov up` does at each tick."""
        ctx, pool = self.ctx, self._pool
        leads = current_leads(ctx, pool)
        if self._stale(now):
            self._looked, self._submitted = now, self._came(now)
            self._tell()
            self._share(now)
            look_ahead(ctx, pool, leads, self._used() + self._waiting(), anew=True)
        observation = observe(ctx, pool)
        found = reaction(
            ctx,
            pool,
            observation,
            leads,
            waiting=self._waiting(),
            used=self._used(),
            tick_s=self.tick_s,
            blocked=why_blocked(ctx, pool),
        )
        carry_out(ctx, pool, observation, found)

    def _unforeseen(self, now: float, view: View) -> bool:
        """Work waits that nothing is warming for, and a minute has passed."""
        return now - self._last >= _MINUTE_S and view.waiting > 0 and self._core.uncovered()

    def _waiting(self) -> Resources:
        line = self._core.line
        return Resources(cpu=line.cpu / UNITS.cpu, memory=line.memory / UNITS.memory, gpu=line.gpu / UNITS.gpu)

    def _used(self) -> Resources:
        return Resources(cpu=self._core.used_cpu / UNITS.cpu, memory=self._core.used_memory / UNITS.memory)

    def _share(self, now: float) -> None:
        """Turns expected depend on what was submitted, not on how it was served: all replays of a trace share them."""
        half = floor_to(from_epoch(now), AGENDA_S)
        key = ("agenda", half.isoformat(), len(self._schedules))
        kept = self._memo.get(key)
        if kept is not None:
            self.ctx.memo[(self._pool.name, "agenda")] = (half, kept)
        else:
            self._memo[key] = expected_turns(self.ctx, self._pool, half)

    def _forecast(self, now: float) -> None:
        if now - self._forecast_at < DAY.total_seconds():
            return
        self._forecast_at = now
        try:
            self._issue(now)
        except ForecastError:
            self.fallbacks += 1

    def _issue(self, now: float) -> None:
        """Issue a forecast. Where play begins all policies know the same, so that one fit there serves all of them."""
        key = ("learnt", now, self._load.start_us, len(self._schedules), self._samples, self.ctx.seed)
        models, name = self.ctx.ports.models, self._pool.name
        first = models.load(name, LEARNT_KIND) is None and now <= self._load.epoch(self._load.start_us)
        kept = self._memo.get(key) if first else None
        if isinstance(kept, tuple):
            made, blob = kept
            models.save(name, LEARNT_KIND, made.format, blob, at=made.created_at, metrics=made.metrics, reason="fit")
        issue_forecast(self.ctx, self._pool)
        held = models.load(name, LEARNT_KIND)
        if first and held is not None:
            self._memo[key] = held

    # ------------------------------------------------------------------ what the store is told

    def _tell_the_past(self, start: float) -> None:
        """Runs that began before play did are known as they were by then."""
        load = self._load
        begun = (load.ready < start) & (np.array(load.runtime_us) >= 0)
        ended = np.array(load.parents_left) < 0
        times = np.where(begun & ended, load.ready, np.nan)
        self._first = np.full(len(times), np.nan)
        self._last_start = np.full(len(times), np.nan)
        self._runtime_s = np.array(load.runtime_us) / US
        self._store.note(
            self._pool.name,
            load.rows,
            ready_at=times,
            started_at=times,
            ended_at=times + load.runtime,
        )

    def _tell(self) -> None:
        """Write what has become ready, started and (as known only later) ended since the last time."""
        core, load = self._core, self._load
        task = np.frombuffer(core.part_task, dtype=np.int64)[self._told_parts :].copy()
        start = load.base + np.frombuffer(core.part_start, dtype=np.int64)[self._told_parts :] / US
        self._told_parts += len(task)
        np.fmin.at(self._first, task, start)
        np.fmax.at(self._last_start, task, start)
        touched = np.unique(np.concatenate([task, np.array(core.line.tasks(), dtype=np.int64)]))
        if not len(touched):
            return
        whole = np.array([core.line.left[t] == 0 for t in touched.tolist()])
        end = self._last_start[touched] + self._runtime_s[touched]
        self._store.note(
            self._pool.name,
            load.rows[touched],
            ready_at=load.base + np.frombuffer(core.ready_at, dtype=np.int64)[touched] / US,
            started_at=self._first[touched],
            ended_at=np.where(whole, end, np.nan),
        )


def _priced(pool: Pool, usd: float) -> Pool:
    return replace(pool, objective=replace(pool.objective, shortage_usd_per_core_hour=usd))


def _as_played(work: WorkTable, played: Array, until: float, *, hide: bool) -> WorkTable:
    """The trace as the store may hold it: what is played has no times yet, what comes after the end is not there.

    With `hide`, nothing says which runs were scheduled.
    """
    runs = work.runs.assign(timing=np.where(played, "observed", work.runs["timing"].to_numpy()))
    if hide:
        runs = runs.assign(schedule="", scheduled_for=np.nan, trigger=str(Trigger.MANUAL))
    blank = played[work.tasks["run"].to_numpy()]
    tasks = work.tasks.assign(
        ready_at=np.where(blank, np.nan, work.tasks["ready_at"]), started_at=np.nan, ended_at=np.nan
    )
    table = WorkTable(runs, tasks, work.parents, work.children)
    return table.select_runs((runs["submit"] < until).to_numpy())
