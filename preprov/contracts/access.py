"""What the HTTP API keeps: tokens, and what orchestrators and nodes tell."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from preprov.model.access import Scope, Token
from preprov.model.events import Event


class TokenStore(Protocol):
    """Tokens by id; no secret is ever in here."""

    def add(self, token: Token) -> None:
        """Keep a new one."""
        ...

    def get(self, token_id: str) -> Token | None:
        """One by its id."""
        ...

    def tokens(self, tenant: str | None = None) -> tuple[Token, ...]:
        """By time of making, revoked and expired ones too."""
        ...

    def revoke(self, token_id: str, at: datetime) -> Token | None:
        """It is good for nothing from `at` on; None if there is none. Revoking again keeps the first instant."""
        ...

    def forget(self, scope: Scope, before: datetime) -> int:
        """Drop tokens of that scope alone that were of no more use by then; returns how many."""
        ...

    def use_up(self, token_id: str, at: datetime) -> bool:
        """Mark a token that is good for one call as used: True for exactly one caller."""
        ...


class EventStore(Protocol):
    """What was told of work that runs elsewhere. Rows are added, and forgotten when they are old."""

    def record(self, events: Sequence[Event]) -> tuple[bool, ...]:
        """Keep them, in one transaction; one flag each: False if it was told before (same tenant, source, event id)."""
        ...

    def forget(self, before: datetime) -> int:
        """Drop what happened before then, but not what was told last; returns how many.

        What was forgotten is new if it is told again. Numbers are never used again.
        """
        ...

    def events(
        self, tenant: str | None = None, *, run_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[tuple[int, Event], ...]:
        """(number, event) in the order told, numbers growing from above `after`."""
        ...
