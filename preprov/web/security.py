"""Who asks, and whether they may: bearer tokens, scopes, tenants, and how often."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from preprov.app import App
from preprov.control.access import authenticate
from preprov.control.context import Context
from preprov.model.access import Scope, Token
from preprov.model.errors import AccessError
from preprov.model.pools import Pool
from preprov.web.limits import Throttle
from preprov.web.problems import Problem, not_found

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="preprov"'}
bearer = HTTPBearer(auto_error=False, description="A token of `preprov token create`.", scheme_name="token")


@dataclass(frozen=True)
class Caller:
    """Who asks, and the context in which it is answered."""

    token: Token
    ctx: Context

    @property
    def sees(self) -> str | None:
        """The tenant whose things it may see; None = everybody's."""
        return None if self.token.is_admin else self.token.tenant

    def tenant(self, named: str | None) -> str:
        """For whom it acts: itself, or whom an administrator names.

        Raises:
            Problem: 403, it names somebody else.
        """
        if named in (None, "", self.token.tenant):
            return self.token.tenant
        if self.token.is_admin:
            return str(named)
        raise Problem(403, "this token acts for its own tenant only", kind="OtherTenant", hint="leave tenant out")

    def pool(self, name: str) -> Pool:
        """A pool that it may see.

        Raises:
            Problem: 404, there is none, or it is none of its own.
        """
        if name not in self.ctx.pools or not self.token.sees_pool(name):
            raise not_found(f"there is no pool {name}")
        return self.ctx.pools[name]

    def pools(self, named: str | None = None) -> tuple[Pool, ...]:
        """The pools it may see; or the one that is named, as `pool`."""
        if named is not None:
            return (self.pool(named),)
        return tuple(p for n, p in sorted(self.ctx.pools.items()) if self.token.sees_pool(n))

    def still_good(self) -> None:
        """Of somebody who stays for long: the token may have been revoked meanwhile.

        Raises:
            Problem: 401, it was, or has expired.
        """
        held = self.ctx.ports.tokens.get(self.token.token_id)
        if held is None or not held.is_good(self.ctx.clock.now()):
            raise bad_token()


def bad_token(what: str = "this token is not known, or is no longer good") -> Problem:
    """It does not say which of the two."""
    return Problem(401, what, kind="BadToken", hint="preprov token create", headers=_CHALLENGE)


def app_of(request: Request) -> App:
    """The wired app behind the API."""
    app: App = request.app.state.preprov
    return app


def needs(scope: Scope) -> Callable[..., Caller]:
    """A dependency: the caller, who must show a token of that scope."""

    def caller(
        request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None
    ) -> Caller:
        throttle: Throttle = request.app.state.throttle
        address = request.client.host if request.client else ""
        throttle.refuse_if_guessing(address)
        ctx = app_of(request).ctx
        if shown is None:
            raise Problem(401, "a token is needed", kind="NoToken", hint="Authorization: Bearer …", headers=_CHALLENGE)
        try:
            token = authenticate(ctx, shown.credentials)
        except AccessError as e:
            throttle.note_failure(address)
            raise bad_token(e.what) from None
        throttle.refuse_if_too_often(token.token_id)
        if not token.allows(scope):
            raise Problem(403, f"this token has no scope {scope}", kind="NoScope", hint="preprov token create")
        return Caller(token, ctx)

    return caller


Reader = Annotated[Caller, Depends(needs(Scope.READ))]
Reserver = Annotated[Caller, Depends(needs(Scope.RESERVE))]
Reporter = Annotated[Caller, Depends(needs(Scope.REPORT))]
Scraper = Annotated[Caller, Depends(needs(Scope.METRICS))]
NodeCaller = Annotated[Caller, Depends(needs(Scope.NODE))]
Responses = dict[int | str, dict[str, Any]]
