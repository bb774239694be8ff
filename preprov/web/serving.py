"""The process that serves the API."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import uvicorn

from preprov.app import App
from preprov.model import access
from preprov.model.access import Scope, Token
from preprov.web.application import Limits, Options, create_api

_PAGE_TOKEN_LIVES = timedelta(days=1)


def serve(
    app: App,
    *,
    host: str,
    port: int,
    limits: Limits,
    proxies: Sequence[str] = (),
    certificate: tuple[Path, Path] | None = None,
    page_token: str = "",
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        app: wired, and open as long as this runs.
        host: address to listen on. port: TCP port.
        limits: of requests.
        proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
        certificate: (chain, key) in PEM, to speak TLS itself.
        page_token: written token that may read as long as this process lives; "" = none.
    """
    options = Options(limits, _page_tokens(app, page_token))
    chain, key = certificate or (None, None)
    uvicorn.run(
        create_api(app, options),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ssl_certfile=chain,
        ssl_keyfile=key,
        timeout_graceful_shutdown=15,
    )


def _page_tokens(app: App, written: str) -> dict[str, Token]:
    if not written:
        return {}
    now = app.ctx.clock.now()
    _, secret = access.read(written)
    scopes = frozenset({Scope.READ, Scope.METRICS})
    return {written: Token("page", access.digest_of(secret), "", scopes, now, now + _PAGE_TOKEN_LIVES)}
