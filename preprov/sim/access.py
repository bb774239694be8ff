"""Tokens and told events in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock

from preprov.model.access import Scope, Token
from preprov.model.events import Event


class MemoryTokens:
    """TokenStore in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, Token] = {}
        self._lock = Lock()

    def add(self, token: Token) -> None:
        """Keep a new one."""
        self._rows[token.token_id] = token

    def get(self, token_id: str) -> Token | None:
        """One by its id."""
        return self._rows.get(token_id)

    def tokens(self, tenant: str | None = None) -> tuple[Token, ...]:
        """By time of making."""
        found = (t for t in self._rows.values() if tenant in (None, t.tenant))
        return tuple(sorted(found, key=lambda t: (t.created_at, t.token_id)))

    def revoke(self, token_id: str, at: datetime) -> Token | None:
        """Good for nothing from then on."""
        with self._lock:
            token = self._rows.get(token_id)
            if token is None:
                return None
            self._rows[token_id] = replace(token, revoked_at=token.revoked_at or at)
            return self._rows[token_id]

    def forget(self, scope: Scope, before: datetime) -> int:
        """Drop tokens of that scope alone that were of no more use by then."""
        with self._lock:
            ends = {i: (t.expires_at, t.revoked_at, t.used_at) for i, t in self._rows.items() if t.scopes == {scope}}
            gone = [i for i, times in ends.items() if any(at is not None and at <= before for at in times)]
            for i in gone:
                del self._rows[i]
        return len(gone)

    def use_up(self, token_id: str, at: datetime) -> bool:
        """True for exactly one caller."""
        with self._lock:
            token = self._rows.get(token_id)
            if token is None or token.used_at is not None:
                return False
            self._rows[token_id] = replace(token, used_at=at)
            return True


class MemoryEvents:
    """EventStore in memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, Event]] = []
        self._last = 0
        self._known: set[tuple[str, str, str]] = set()
        self._lock = Lock()

    def record(self, events: Sequence[Event]) -> tuple[bool, ...]:
        """Keep them; one flag each: False if it was told before."""
        new = []
        with self._lock:
            for e in events:
                key = (e.tenant, e.source, e.event_id)
                new.append(key not in self._known)
                if new[-1]:
                    self._known.add(key)
                    self._last += 1
                    self._rows.append((self._last, e))
        return tuple(new)

    def forget(self, before: datetime) -> int:
        """Drop what happened before then."""
        with self._lock:
            old = [(i, e) for i, e in self._rows if e.at < before and i < self._last]
            self._known -= {(e.tenant, e.source, e.event_id) for _, e in old}
            gone = {i for i, _ in old}
            self._rows = [(i, e) for i, e in self._rows if i not in gone]
        return len(old)

    def events(
        self, tenant: str | None = None, *, run_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[tuple[int, Event], ...]:
        """(number, event) in the order told."""
        found = [
            (i, e) for i, e in self._rows if i > after and tenant in (None, e.tenant) and run_id in (None, e.run_id)
        ]
        return tuple(found[:limit])
