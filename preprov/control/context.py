"""What every use case is handed: ports, providers, schedulers, prices, a clock, and who is asking."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from preprov.contracts import Clock, PoolProvider, Ports, PriceBook, Scheduler, Serves
from preprov.model.errors import ConfigError
from preprov.model.limits import Account, SharedLimit
from preprov.model.pools import Mode, Pool
from preprov.model.time import aware


def default_holder() -> str:
    """Name of this process for leases."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still: "now" as a person named it."""

    instant: datetime

    def now(self) -> datetime:
        """Always the same instant."""
        return self.instant

    def sleep(self, seconds: float) -> None:
        """Return at once: this clock does not move."""


@dataclass(frozen=True)
class Tenant:
    """Whose work it is.

    Attributes:
        priority: of its work where a DAG names none.
        quota: how much it may hold of a pool at once, running and reserved; a resource not named is not limited.
        share: its weight among tenants of equal priority, where there is not enough for all.
    """

    priority: int = 0
    quota: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Context:
    """The outside world as the use cases see it.

    Attributes:
        tenants: what is configured of them; one that is not named has no priority and no limit.
        served: pool -> places that run work on its nodes by their own means.
        limits: quotas and budgets that pools share. account: what all of them may have together.
        schedulers: provider name -> how tasks are started on its nodes.
        actor: who is asking, for the audit log.
        holder: name under which leases are held.
        keep_reservations: released and expired ones are forgotten after so long; None = never.
        callback: URL of the HTTP API as nodes reach it, for those that can call; "" = none does.
        n_samples: joint demand samples per forecast. seed: of every random draw.
        live: False when "now" is an instant a person named: the pool is then taken as empty, for what exists now says
            nothing about then.
        memo: values that are expensive to learn and only need refreshing now and then; never the state of the world.
    """

    ports: Ports
    providers: Mapping[str, PoolProvider]
    schedulers: Mapping[str, Scheduler]
    prices: PriceBook
    clock: Clock
    pools: Mapping[str, Pool]
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    served: Mapping[str, tuple[Serves, ...]] = field(default_factory=dict)
    limits: tuple[SharedLimit, ...] = ()
    account: Account | None = None
    actor: str = "controller"
    holder: str = field(default_factory=default_holder)
    callback: str = ""
    keep_reservations: timedelta | None = None
    n_samples: int = 200
    seed: int = 0
    live: bool = True
    memo: dict[tuple[str, ...], tuple[datetime, object]] = field(default_factory=dict)

    def at(self, when: datetime | None) -> "Context":
        """The same context at an instant named by a person; None = as it is."""
        if when is None:
            return self
        return replace(self, clock=FixedClock(aware(when)), live=False, memo={})

    def pool(self, name: str) -> Pool:
        """The configured pool of that name.

        Raises:
            ConfigError: there is none.
        """
        try:
            return self.pools[name]
        except KeyError:
            known = ", ".join(sorted(self.pools)) or "none"
            raise ConfigError(
                f"there is no pool {name!r}",
                where="preprov.toml",
                hint=f"pools: {known}; `preprov init` writes an example",
            ) from None

    def provider(self, name: str) -> PoolProvider:
        """The provider of that name.

        Raises:
            ConfigError: it is not wired.
        """
        try:
            return self.providers[name]
        except KeyError:
            raise ConfigError(
                f"no provider {name!r}", hint=f"providers: {', '.join(sorted(self.providers)) or 'none'}"
            ) from None

    def mode(self, pool: Pool, now: datetime) -> Mode:
        """Mode in force: a run-time one that has not expired, else as configured."""
        return self.ports.intent.mode(pool.name, now) or pool.mode
