"""Who may ask the HTTP API for what: tokens, of which only a digest is ever kept."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from preprov.model.errors import AccessError
from preprov.model.time import aware

_PREFIX: Final = "preprov"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """What a token may be used for."""

    READ = "read"
    """Capacity, forecasts, plans, and why."""
    RESERVE = "reserve"
    """Reservations of its tenant: make, see, commit, release."""
    REPORT = "report"
    """Events of its tenant's runs."""
    METRICS = "metrics"
    """/metrics: sums over all tenants, and what is its own."""
    NODE = "node"
    """The readiness of one node, once."""
    ADMIN = "admin"
    """Everything, for every tenant."""


@dataclass(frozen=True, slots=True)
class Token:
    """A right to ask, without the secret.

    Attributes:
        token_id: names it in lists and logs; no secret.
        digest: SHA-256 of the secret, hex. The secret has 256 random bits, so that a plain digest cannot be searched.
        pools: the pools it may see and touch; empty = all.
        node_id: the node that a token of scope NODE speaks for.
        used_at: when a token that is good for one call was used.
    """

    token_id: str
    digest: str
    tenant: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    pools: tuple[str, ...] = ()
    node_id: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.scopes:
            raise AccessError("a token needs at least one scope", hint=f"one of {', '.join(Scope)}")
        for name in ("created_at", "expires_at", "revoked_at", "used_at"):
            at = getattr(self, name)
            if at is not None:
                object.__setattr__(self, name, aware(at, name))

    @property
    def is_admin(self) -> bool:
        """True if it speaks for every tenant."""
        return Scope.ADMIN in self.scopes

    def allows(self, scope: Scope) -> bool:
        """True if it may be used for that; ADMIN may be used for everything but what a node says."""
        return scope in self.scopes or (self.is_admin and scope is not Scope.NODE)

    def sees_pool(self, pool: str) -> bool:
        """True if the pool is one of its own."""
        return not self.pools or pool in self.pools

    def is_good(self, now: datetime) -> bool:
        """True if it was neither revoked nor used up, and has not expired."""
        spent = self.revoked_at is not None or (Scope.NODE in self.scopes and self.used_at is not None)
        return not spent and (self.expires_at is None or now < self.expires_at)

    def opens_with(self, secret: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.digest, digest_of(secret))


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> tuple[str, str]:
    """A new token's id and secret."""
    return secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)


def written(token_id: str, secret: str) -> str:
    """How a token is handed to its owner: once, for the store only has its digest."""
    return f"{_PREFIX}_{token_id}_{secret}"


def read(text: str) -> tuple[str, str]:
    """Id and secret of a written token.

    Raises:
        AccessError: it is none.
    """
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not token_id or not secret or not text.isascii():
        raise AccessError("this is not a token of preprov", hint="preprov token create")
    return token_id, secret
