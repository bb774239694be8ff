"""The process that serves the API."""

from collections.abc import Sequence
from pathlib import Path

import uvicorn

from preprov.app import App
from preprov.web.application import Limits, create_api


def serve(
    app: App,
    *,
    host: str,
    port: int,
    limits: Limits,
    proxies: Sequence[str] = (),
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        app: wired, and open as long as this runs.
        host: address to listen on. port: TCP port.
        limits: of requests.
        proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
        certificate: (chain, key) in PEM, to speak TLS itself.
    """
    chain, key = certificate or (None, None)
    uvicorn.run(
        create_api(app, limits),
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
