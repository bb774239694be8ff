"""token create|list|revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.model.access import Token

token_app = typer.Typer(help="Who may use the HTTP API, and for what.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(token_app, name="token")


@token_app.command("create")
def token_create(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose it is: it acts for this tenant only.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, reserve, report, metrics or admin; repeat it.")],
    pool: Annotated[list[str] | None, typer.Option("--pool", "-p", help="Only these pools; repeat it.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="Good for this long: 90d, 12h.")] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token. It is shown once: only a digest of it is kept."""
    with common.opened("token create", output) as app:
        from preprov.control.access import create_token
        from preprov.model.access import Scope
        from preprov.model.errors import ConfigError

        known = [s for s in Scope if s is not Scope.NODE]
        wrong = [s for s in scope if s not in known]
        if wrong:
            raise ConfigError(f"there is no scope {wrong[0]!r}", where="--scope", hint=f"one of {', '.join(known)}")
        ttl = common.parse_span(expires) if expires else None
        made, written = create_token(app.ctx, tenant, [Scope(s) for s in scope], pools=pool or (), ttl=ttl, note=note)
        if output is Output.JSON:
            body = {"token": written, "about": token_json(made)}
            common.print_json(common.envelope("token create", None, app.ctx.clock.now(), body))
            return
        typer.echo(written)
        common.say(f"token {made.token_id} of {tenant}: keep it, it is not shown again")


@token_app.command("list")
def token_list(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of one tenant.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tokens by time of making; never the secret."""
    with common.opened("token list", output) as app:
        now = app.ctx.clock.now()
        found = app.ctx.ports.tokens.tokens(tenant)
        if output is Output.JSON:
            body = {"tokens": [token_json(t) for t in found]}
            common.print_json(common.envelope("token list", None, now, body))
            return
        rows = [
            (
                t.token_id,
                t.tenant or f"node {t.node_id}",
                ", ".join(sorted(t.scopes)),
                ", ".join(t.pools) or "all",
                "good" if t.is_good(now) else "revoked" if t.revoked_at else "used" if t.used_at else "expired",
                f"{t.created_at:%Y-%m-%d %H:%M}Z",
                t.note,
            )
            for t in found
        ]
        columns = ("token", "tenant", "scopes", "pools", "state", "made", "note")
        common.print_table("", columns, rows, note="" if rows else "no tokens")


@token_app.command("revoke")
def token_revoke(token_id: str, output: OutputOption = Output.TABLE) -> None:
    """Take a token back; it is good for nothing from now on."""
    with common.opened("token revoke", output) as app:
        from preprov.control.access import revoke_token

        gone = revoke_token(app.ctx, token_id)
        if output is Output.JSON:
            body = {"about": token_json(gone)}
            common.print_json(common.envelope("token revoke", None, app.ctx.clock.now(), body))
            return
        typer.echo(f"token {gone.token_id} of {gone.tenant} is revoked")


def token_json(t: "Token") -> dict[str, object]:
    """A token as JSON, without secret and digest."""
    return {
        "token_id": t.token_id,
        "tenant": t.tenant,
        "scopes": sorted(t.scopes),
        "pools": list(t.pools),
        "node_id": t.node_id,
        "note": t.note,
        "created_at": t.created_at,
        "expires_at": t.expires_at,
        "revoked_at": t.revoked_at,
        "used_at": t.used_at,
    }
