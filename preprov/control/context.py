"""What every use case is handed: ports, providers, schedulers, prices, a clock, and who is asking."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from preprov.contracts import Clock, PoolProvider, Ports, PriceBook, Scheduler
from preprov.model.errors import ConfigError
from preprov.model.pools import Mode, Pool


def default_holder() -> str:
    """Name of this process for leases."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Context:
    """The outside world as the use cases see it.

    Attributes:
        schedulers: provider name -> how tasks are started on its nodes.
        actor: who is asking, for the audit log.
        holder: name under which leases are held.
        n_samples: joint demand samples per forecast. seed: of every random draw.
        memo: values that are expensive to learn and only need refreshing now and then; never the state of the world.
    """

    ports: Ports
    providers: Mapping[str, PoolProvider]
    schedulers: Mapping[str, Scheduler]
    prices: PriceBook
    clock: Clock
    pools: Mapping[str, Pool]
    actor: str = "controller"
    holder: str = field(default_factory=default_holder)
    n_samples: int = 200
    seed: int = 0
    memo: dict[tuple[str, ...], tuple[datetime, object]] = field(default_factory=dict)

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
