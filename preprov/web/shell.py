"""The page: static files of this package, and `/`. It knows nothing; all it shows it asks the API for, with a token."""

from typing import Final

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

PAGE: Final = "page"
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind} 'self'" for kind in ("script-src", "style-src", "img-src", "connect-src")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time, and mostly answered with 304
}
"""Of every answer of the page: its own scripts and styles only, in nobody's frame."""


class Files(StaticFiles):
    """The files of the page, with its headers; whatever is asked for, nothing outside their folder is answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as StaticFiles does."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in _LOWER.items())]
            await send(message)

        await super().__call__(scope, receive, with_headers)


_LOWER: Final = {k.lower(): v for k, v in HEADERS.items()}


def attach(api: FastAPI) -> None:
    """Serve the page at `/` and its files below /page."""
    files = Files(packages=[("preprov.web", PAGE)])
    api.mount(f"/{PAGE}", files, name=PAGE)

    @api.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def shell() -> Response:
        """The page itself."""
        path, _ = files.lookup_path("index.html")
        return FileResponse(path, media_type="text/html", headers=HEADERS)
