"""The product's launch order on the engine's line: who goes first where a limit binds, as dispatch would decide it."""

from typing import Final

import numpy as np

from preprov.control.ahead import remembered_order
from preprov.control.context import Context
from preprov.control.demanding import known_runtimes
from preprov.demand.runtimes import RuntimeModel
from preprov.model.pools import Pool
from preprov.model.worktable import Array
from preprov.planning.order import critical_path_s
from preprov.replay.core import Core
from preprov.replay.load import Load

_PLACES: Final = 1 << 20
_SECONDS: Final = 1 << 30
_RECHECK_S: Final = 60.0


class LaunchOrder:
    """Orders the engine's line by `planning.order.launch_order`: priority, proposed rank, slack, path that is left.

    What reads warm data plays no part, for traces do not say what is read. Slack is `land_by` less now less the longest
    path that is left, by runtimes as they had been learnt by then.
    """

    def __init__(self, ctx: Context, pool: Pool, core: Core, load: Load) -> None:
        self._ctx, self._pool, self._core, self._load = ctx, pool, core, load
        work = load.work
        self._run = work.tasks["run"].to_numpy()
        self._run_ids = work.runs["run_id"].astype(str).to_numpy()
        self._land_by = work.runs["land_by"].to_numpy(dtype=np.float64)[self._run]
        self._model: RuntimeModel | None = None
        self._left = np.zeros(len(self._run))
        self._ranks: object = None
        self._place = np.full(len(self._run), _PLACES - 1, dtype=np.int64)
        self._at = -np.inf

    def apply(self, now: float) -> None:
        """Put the line in order, if something changed that decides it; `now` in epoch seconds."""
        changed = self._learn() | self._rank()
        if not changed and now - self._at < _RECHECK_S:
            return
        self._at = now
        self._core.reorder(self._keys(now).tolist())

    def _learn(self) -> bool:
        """Path that is left of each task, by the runtimes that demand goes by."""
        model = known_runtimes(self._ctx, self._pool)
        if model is None or model is self._model:
            return False
        work, self._model = self._load.work, model
        hints = work.tasks["hint_s"].to_numpy(dtype=np.float64)
        usual = model.tables(work.tasks["signature"].to_numpy(dtype=object), hints).quantile(0.5)
        self._left = critical_path_s(np.asarray(usual, dtype=np.float64), work.parents, work.children)
        return True

    def _rank(self) -> bool:
        """Places of runs in the order that the last plan proposed."""
        ranks = remembered_order(self._ctx, self._pool)
        if ranks is self._ranks or (not ranks and not self._ranks):
            return False
        self._ranks = ranks
        place = np.array([ranks.get(r, _PLACES - 1) for r in self._run_ids], dtype=np.int64)
        self._place = np.minimum(place, _PLACES - 1)[self._run]
        return True

    def _keys(self, now: float) -> Array:
        """(T,) whole numbers, small = first."""
        slack = self._land_by - now - self._left
        due = np.isfinite(slack)
        lost = due & (slack < 0)
        # Without a deadline: after those that have one, the longest path first.
        after = np.where(due, np.where(lost, -slack, slack), _SECONDS - 1 - self._left // 60)
        seconds = np.clip(after, 0, _SECONDS - 1).astype(np.int64)
        first = np.array(self._load.priority, dtype=np.int64)
        keys: Array = ((first * _PLACES + self._place) * 2 + lost) * _SECONDS + seconds
        return keys
