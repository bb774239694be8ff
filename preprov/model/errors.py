"""One error tree. Every error says what went wrong, where, and what to do next."""

from typing import ClassVar


class PreprovError(Exception):
    """Base of every error preprov raises on purpose.

    Args:
        what: what went wrong, one sentence, no secrets.
        where: file:line, pool, node, url: the place to look at.
        hint: what the reader can do about it.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    @property
    def kind(self) -> str:
        """The error's name in JSON and metric labels."""
        return type(self).__name__

    def as_dict(self) -> dict[str, str]:
        """The four fields every JSON error carries."""
        return {"error": self.kind, "what": self.what, "where": self.where, "hint": self.hint}

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"({self.where})")
        if self.hint:
            parts.append(f"-> {self.hint}")
        return " ".join(parts)


class ConfigError(PreprovError):
    """The configuration, an option or a file given by a person is wrong."""

    exit_code = 2


class SourceError(PreprovError):
    """A source of work or usage could not be read."""


class SourceUnavailableError(SourceError):
    """The source did not answer; the same call may succeed later."""

    retryable = True


class WorkError(SourceError):
    """A DAG or task is malformed: a cycle, an unknown parent, a negative request."""

    exit_code = 2


class ForecastError(PreprovError):
    """No forecast can be made from this history."""


class PlanError(PreprovError):
    """No plan can be made or applied."""


class StalePlanError(PlanError):
    """The plan was made for a state of the world that has passed; make a new one."""


class PoolError(PreprovError):
    """A pool provider refused or failed."""


class InsufficientCapacityError(PoolError):
    """The cloud has no such machine now; another offering or a later try may do."""

    retryable = True


class QuotaExceededError(PoolError):
    """The account's limit is reached; retrying does not help until it is raised."""


class ThrottledError(PoolError):
    """Too many calls; the same call may succeed later."""

    retryable = True


class NotAuthorisedError(PoolError):
    """The credentials lack a right."""


class NotFoundError(PoolError):
    """The named thing does not exist (any more); for a deletion this is success."""


class ConflictError(PoolError):
    """Somebody else changed the thing meanwhile; observe again, then decide again."""

    retryable = True


class UnfinishedError(PoolError):
    """What was asked for was begun and is not whole; sent again under the same token it is finished, not doubled."""

    retryable = True


class GuardError(PoolError):
    """A guard forbids the action (max_nodes, spend, launches per minute, mode, halt)."""


class RefusedError(PoolError):
    """What is asked for cannot be done there, ever: the adapter declares that it cannot."""


class NodeBusyError(PoolError):
    """The node runs a task: it is never ended."""


class ReservationError(PreprovError):
    """A reservation cannot move to the state asked for."""


class OverbookedError(ReservationError):
    """The capacity asked for is not free in that window."""


class AccessError(PreprovError):
    """Who asks may not have this, or is not known."""


class StoreError(PreprovError):
    """The store cannot be read or written."""


class StoreUnavailableError(StoreError):
    """The database does not answer."""

    retryable = True


class LeaseHeldError(StoreError):
    """Another pass over this pool is under way; it is safe to come back later."""

    retryable = True


class UnsafeModelError(StoreError):
    """A stored model is not what was written, or is in a format that could run code; it is not loaded."""
