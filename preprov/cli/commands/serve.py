"""serve: the HTTP API and the metrics."""

from pathlib import Path
from typing import Annotated

import typer

from preprov.cli import common
from preprov.model.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def attach(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; loopback unless asked for.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8470,
    certificate: Annotated[Path | None, typer.Option("--tls-cert", help="PEM chain, to speak TLS.")] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="PEM key of it.")] = None,
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option("--behind-proxy", help="Address of a proxy whose X-Forwarded headers are believed; repeat it."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without TLS and without a proxy all the same.")
    ] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Requests per second that one token may make.")] = 50.0,
    burst: Annotated[int, typer.Option("--burst", min=1, help="Requests that one token may make at once.")] = 200,
    max_body: Annotated[int, typer.Option("--max-body", min=1024, help="Bytes that a request may have.")] = 1 << 20,
) -> None:
    """Serve the HTTP API, the metrics and the page until Ctrl-C."""
    _check(host, certificate, key, behind_proxy or [], insecure)
    with common.opened("serve", actor="api") as app:
        from preprov.web.application import Limits
        from preprov.web.serving import serve as run

        scheme = "https" if certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        common.say(f"serving {scheme}://{shown}:{port}/v1; the page to watch it on: {scheme}://{shown}:{port}/")
        run(
            app,
            host=host,
            port=port,
            limits=Limits(max_body, rate, burst),
            proxies=behind_proxy or [],
            certificate=(certificate, key) if certificate and key else None,
        )


def _check(host: str, certificate: Path | None, key: Path | None, proxies: list[str], insecure: bool) -> None:
    """Refuse to show tokens to a network by accident.

    Raises:
        ConfigError: half a certificate, or beyond loopback in clear.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("a certificate needs its key", where="serve", hint="--tls-cert FILE --tls-key FILE")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {path}", where="serve")
    if host not in _LOOPBACK and certificate is None and not proxies and not insecure:
        raise ConfigError(
            f"{host} is not loopback, and tokens would travel in clear",
            where="serve --host",
            hint="give --tls-cert and --tls-key, or --behind-proxy ADDRESS of what speaks TLS, or --insecure",
        )
