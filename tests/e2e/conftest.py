"""A real `preprov serve` over a night that was just played, and a real Chromium that looks at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.night import play

CHROMIUM = next((found for n in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(n))), None)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 30_000


@dataclass
class Server:
    """`preprov serve` on a port of its own, which can be ended and started again."""

    home: Path
    port: int
    tokens: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    options: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> Path:
        return self.home / "serve.log"

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "preprov.cli.main", "serve", "--port", str(self.port), *options],
                cwd=self.home,
                env={**os.environ, "PREPROV_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}v1/ready", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # a stream or an idle connection is not waited for
            self.process.wait(30)
            self.process = None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Served until the session ends; whoever ends it starts it again."""
    home = tmp_path_factory.mktemp("night")
    served = Server(home, free_port(), play(home, datetime.now(UTC)))
    served.start()
    yield served
    served.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser of the system; playwright brings none here."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("apt: chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


Look = Callable[..., Any]


@pytest.fixture
def look(chromium: Any, server: Server) -> Iterator[Look]:
    """Opens the page as the owner of a token, in a context of its own; nothing may be wrong in its console.

    What the browser itself says of an answer that is an error is no fault of the page.
    """
    contexts, faults = [], []

    def opened(who: str | None = "admin", **options: Any) -> Any:
        context = chromium.new_context(
            timezone_id="Europe/Zurich", **{"viewport": {"width": 1180, "height": 900}} | options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on(
            "console", lambda m: faults.append(m.text) if m.type == "error" and "Failed to load" not in m.text else None
        )
        page.goto(server.url)
        if who is not None:
            sign_in(page, server.tokens[who])
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")
        context.close()
    assert faults == []


def sign_in(page: Any, token: str) -> None:
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Look").click()
