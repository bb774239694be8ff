"""Tell the controller's API once that this node is ready, or failed, where a note says how: it then looks at once.

What counts is the report in the letter box. So a call that fails is let go of: the controller looks by itself.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from preprov.agent.clouds import CloudError, Http
from preprov.model.agent import Health
from preprov.model.notes import CALLBACK, gather

_SAID: Final = ("ready", "failed")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_TRIES: Final = 3


class Callback:
    """What one node says by itself. Each token is used for one call; it is never written anywhere.

    Args:
        connect: URL -> something that asks it, as `Http.ask`.
    """

    def __init__(self, connect: Callable[[str], Http] | None = None) -> None:
        self._connect = connect or (lambda url: Http(url, timeout_s=3.0, tries=1))
        self._done = ""
        self._failed = 0

    def round(self, health: Health, notes: Mapping[str, str]) -> str:
        """Call if there is something to say and a token to say it with; returns a line for the log, "" = no call."""
        how = gather(CALLBACK, notes) or {}
        url, pool, token = (str(how.get(k, "")) for k in ("url", "pool", "token"))
        if health.phase not in _SAID or token in ("", self._done) or not _safe(url):
            return ""
        body = json.dumps({"pool": pool, "phase": health.phase, "reason": _plain(health.reason)})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            path = f"/v1/nodes/{quote(health.node_id, safe='')}/state"
            self._connect(url).ask("POST", path, headers, body)
        except CloudError as e:
            self._failed += 1
            if e.status or self._failed >= _TRIES:  # it was refused, or nobody is there
                self._done, self._failed = token, 0
            return f"the controller was not called: {e.status or 'no answer'}"
        self._done, self._failed = token, 0
        return f"told the controller: {health.phase}"


def _safe(url: str) -> bool:
    """Not in clear beyond this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
