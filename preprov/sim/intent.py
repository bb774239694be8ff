"""What is wanted and agreed on, in memory: halts, modes, floors, drains, votes, leases, model versions."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from preprov.contracts import ModelVersion
from preprov.model.errors import LeaseHeldError, StoreError, UnsafeModelError
from preprov.model.learning import Promotion
from preprov.model.plans import stable_id
from preprov.model.pools import Mode, Override

_RUNS_CODE: Final = frozenset({"pickle", "joblib", "cloudpickle", "dill", "torch"})
_PICKLE_START: Final = b"\x80"


class MemoryVotes:
    """VoteStore in memory."""

    def __init__(self) -> None:
        self._votes: dict[str, dict[str, datetime]] = {}

    def votes(self, pool: str) -> Mapping[str, datetime]:
        """node_id -> the first of its unbroken votes."""
        return dict(self._votes.get(pool, {}))

    def replace(self, pool: str, votes: Mapping[str, datetime]) -> None:
        """Set all votes of the pool."""
        self._votes[pool] = dict(votes)


class MemoryLeases:
    """LeaseStore in memory."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, datetime]] = {}
        self._lock = Lock()

    @contextmanager
    def hold(self, pool: str, holder: str, ttl_s: float, now: datetime) -> Iterator[None]:
        """Hold the pool's lease inside the `with`; one of a time, whoever holds it."""
        mine = (holder, now + timedelta(seconds=ttl_s))
        with self._lock:
            other = self._held.get(pool)
            if other is not None and other[1] > now:
                raise LeaseHeldError(
                    f"{other[0]} holds pool {pool} until {other[1]:%H:%M:%S}Z", where=pool, hint="try again later"
                )
            self._held[pool] = mine
        try:
            yield
        finally:
            with self._lock:
                if self._held.get(pool) == mine:
                    del self._held[pool]


class MemoryModels:
    """ModelStore in memory; pickles are refused here as everywhere."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[ModelVersion, bytes]] = {}
        self._promotions: list[Promotion] = []

    def save(
        self,
        pool: str,
        kind: str,
        fmt: str,
        blob: bytes,
        *,
        at: datetime,
        metrics: Mapping[str, float],
        reason: str = "",
    ) -> ModelVersion:
        """Keep a version; the first of a (pool, kind) is promoted at once."""
        _must_be_safe(fmt, blob, pool)
        sha256 = hashlib.sha256(blob).hexdigest()
        version = ModelVersion(
            version=stable_id(pool, kind, at.isoformat(), sha256, len(self._rows)),
            pool=pool,
            kind=kind,
            format=fmt,
            sha256=sha256,
            created_at=at,
            champion=self._champion(pool, kind) is None,
            metrics=dict(metrics),
            reason=reason,
        )
        self._rows[version.version] = (version, blob)
        if version.champion:
            self._promotions.append(Promotion(pool, kind, version.version, "", at, reason))
        return version

    def load(self, pool: str, kind: str, version: str | None = None) -> tuple[ModelVersion, bytes] | None:
        """The champion, or the version named."""
        row = self._champion(pool, kind) if version is None else self._rows.get(version)
        if row is None or (row[0].pool, row[0].kind) != (pool, kind):
            return None
        if hashlib.sha256(row[1]).hexdigest() != row[0].sha256:
            raise UnsafeModelError("the model is not what was written", where=row[0].version)
        _must_be_safe(row[0].format, row[1], pool)
        return row

    def versions(self, pool: str | None = None) -> tuple[ModelVersion, ...]:
        """Newest first."""
        found = [v for v, _ in self._rows.values() if pool in (None, v.pool)]
        return tuple(sorted(reversed(found), key=lambda v: v.created_at, reverse=True))

    def promote(
        self,
        version: str,
        *,
        at: datetime,
        reason: str,
        backtest_id: str = "",
        actor: str = "",
        rollback: bool = False,
    ) -> ModelVersion:
        """Make it champion of its (pool, kind), and remember that."""
        if version not in self._rows:
            raise StoreError(f"there is no model version {version}", hint="preprov model list")
        chosen, blob = self._rows[version]
        before = self._champion(chosen.pool, chosen.kind)
        if before is not None and before[0].version == version:
            return chosen
        if before is not None:
            self._rows[before[0].version] = (replace(before[0], champion=False), before[1])
        promoted = replace(chosen, champion=True, reason=reason, backtest_id=backtest_id or chosen.backtest_id)
        self._rows[version] = (promoted, blob)
        old = before[0].version if before else ""
        self._promotions.append(
            Promotion(chosen.pool, chosen.kind, version, old, at, reason, backtest_id, actor, rollback)
        )
        return promoted

    def promotions(self, pool: str, kind: str) -> tuple[Promotion, ...]:
        """Newest first."""
        return tuple(p for p in reversed(self._promotions) if (p.pool, p.kind) == (pool, kind))

    def forget(self, versions: Collection[str]) -> int:
        """Delete these versions, a champion never; returns how many."""
        gone = [v for v in versions if v in self._rows and not self._rows[v][0].champion]
        for version in gone:
            del self._rows[version]
        return len(gone)

    def _champion(self, pool: str, kind: str) -> tuple[ModelVersion, bytes] | None:
        return next((r for r in self._rows.values() if r[0].champion and (r[0].pool, r[0].kind) == (pool, kind)), None)


def _must_be_safe(fmt: str, blob: bytes, where: str) -> None:
    if fmt.lower() in _RUNS_CODE or (blob[:1] == _PICKLE_START and blob[1:2] <= b"\x05"):
        raise UnsafeModelError("a pickle is never stored nor loaded", where=where, hint="skops, LightGBM text, JSON")


class MemoryIntent:
    """IntentStore in memory."""

    def __init__(self) -> None:
        self._halted = ""
        self._modes: dict[str, tuple[Mode, datetime | None]] = {}
        self._overrides: list[Override] = []
        self._drains: dict[str, frozenset[str]] = {}

    def halted(self) -> str:
        """Reason if all writes are stopped."""
        return self._halted

    def set_halt(self, reason: str, *, actor: str, at: datetime) -> None:
        """Stop all writes, or go on."""
        self._halted = reason

    def mode(self, pool: str, now: datetime) -> Mode | None:
        """A mode set at run time that has not expired."""
        mode, until = self._modes.get(pool, (None, None))
        return mode if until is None or now < until else None

    def set_mode(self, pool: str, mode: Mode, until: datetime | None, *, actor: str, at: datetime) -> None:
        """Set the mode until an instant."""
        self._modes[pool] = (mode, until)

    def overrides(self, pool: str, at: datetime) -> tuple[Override, ...]:
        """Floors in force."""
        return tuple(o for o in self._overrides if o.pool == pool and o.since <= at < o.until)

    def add_override(self, override: Override) -> None:
        """Keep a floor, once."""
        if override not in self._overrides:
            self._overrides.append(override)

    def drains(self, pool: str) -> frozenset[str]:
        """Node ids a person asked to drain."""
        return self._drains.get(pool, frozenset())

    def set_drain(self, pool: str, node_ids: Iterable[str]) -> None:
        """Replace the set."""
        self._drains[pool] = frozenset(node_ids)
