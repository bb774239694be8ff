"""Finished replays in a folder, so that none is played twice, and none is taken that would come out otherwise now."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pandas as pd

from preprov import __version__
from preprov.replay.frontier import OURS
from preprov.replay.played import Played, Run
from preprov.replay.registry import version_of
from preprov.replay.yardstick import Case

ENGINE: Final = 1
"""Raise it by hand when a replay of any policy comes out otherwise: the engine, the simulated cloud, a policy."""
DECISIONS: Final = 1
"""Raise it by hand when plans or reactions of ours decide otherwise. A hash of the source would lose plays that took
hours whenever something changes that no replay hangs on."""


class Shelf:
    """Names of files hang on all that the outcome hangs on: what is stale is not taken."""

    def __init__(self, folder: Path, case: Case, capacity: bool) -> None:
        self._folder, self._capacity = folder, capacity
        self._digest = _digest(case)

    def _file(self, run: Run) -> Path:
        decided = (__version__, ENGINE, DECISIONS if run.policy == OURS else "", version_of(run.policy))
        name = sha256(repr((self._digest, decided)).encode()).hexdigest()[:12]
        return self._folder / f"{run.policy}-{run.knob:g}-{run.lead_scale:g}-{name}.json"

    def take(self, run: Run) -> Played | None:
        """The replay, if all that is wanted of it is there."""
        file = self._file(run)
        table = file.with_suffix(".parquet")
        if self._capacity and not table.exists():
            return None
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Played(**kept, capacity=pd.read_parquet(table) if self._capacity else None)

    def put(self, run: Run, played: Played) -> None:
        """Keep it; a half-written one is never seen."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(run)
        if played.capacity is not None:
            _whole(file.with_suffix(".parquet"), played.capacity)
        part = file.with_suffix(".part")
        body = {"row": played.row, "judged": played.judged, "tenants": played.tenants, "nodes": played.nodes}
        part.write_text(json.dumps(body), encoding="utf-8")
        part.replace(file)


def _whole(file: Path, frame: pd.DataFrame) -> None:
    part = file.with_suffix(".part")
    frame.to_parquet(part)
    part.replace(file)


def _digest(case: Case) -> str:
    """Of the trace, the pool and how it is judged."""
    total = sha256()
    for frame in (case.work.runs, case.work.tasks):
        total.update(repr(list(frame.columns)).encode())
        total.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    for ends in (case.work.parents, case.work.children):
        total.update(ends.astype("int64").tobytes())
    said = (case.name, case.judged_from, case.until, case.most_cores, case.warm_up_s, case.seed)
    total.update(repr([_plain(v) for v in (*said, case.schedules, case.pool, case.installation)]).encode())
    return total.hexdigest()


def _plain(value: object) -> object:
    """The same in every process: sets and mappings in order, and without what is as it is by default.

    So a new attribute that nobody uses changes nothing.
    """
    if isinstance(value, Enum):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        set_here = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != _default(f)]
        return (type(value).__name__, [(name, _plain(v)) for name, v in set_here])
    if isinstance(value, Mapping):
        return sorted((repr(_plain(k)), _plain(v)) for k, v in value.items())
    if isinstance(value, AbstractSet):
        return sorted(repr(_plain(v)) for v in value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _default(of: Field[Any]) -> object:
    return of.default_factory() if of.default_factory is not MISSING else of.default
