"""A small HTTP client for metadata services and the few calls beyond them. No proxies, short waits, few tries.

The agent has the standard library only, so trying again is done here and nowhere else: what was throttled, not ready,
or not answered.
"""

import http.client
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

_AGAIN: Final = frozenset({408, 410, 429, 500, 502, 503, 504})
_LONGEST: Final = 1 << 20
_LONGEST_WAIT_S: Final = 5.0


class CloudError(Exception):
    """The cloud did not answer, or refused. `status`: of its answer, 0 = it gave none."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


class Http:
    """One server. A connection is kept and made anew when it broke.

    Args:
        base: URL up to where paths begin. timeout_s: of each try. tries: at most so many.
        pause: waits between tries.
    """

    def __init__(
        self, base: str, *, timeout_s: float = 3.0, tries: int = 4, pause: Callable[[float], None] = time.sleep
    ) -> None:
        url = urlsplit(base)
        self.host = url.netloc
        self._secure = url.scheme == "https"
        self._prefix = url.path.rstrip("/")
        self._timeout_s, self._tries, self._pause = timeout_s, tries, pause
        self._kept: http.client.HTTPConnection | None = None

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> str | None:
        """Text of a resource; None if there is none.

        Raises:
            CloudError: no answer, or a refusal.
        """
        try:
            return self.ask("GET", path, headers)
        except CloudError as e:
            if e.status == 404:
                return None
            raise

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None) -> str:
        """Text of the answer to a request.

        Raises:
            CloudError: no answer, or one that is not 2xx.
        """
        error = CloudError(f"{method} {path}: not tried")
        for attempt in range(self._tries):
            try:
                status, text, after = self._once(method, path, headers or {}, body)
            except (OSError, http.client.HTTPException) as e:
                self._drop()
                error, after = CloudError(f"{method} {self.host}{path}: {str(e) or type(e).__name__}"), ""
            else:
                if 200 <= status < 300:
                    return text
                error = CloudError(f"{method} {path}: {status} {text.strip()[:200]}", status)
                if status not in _AGAIN:
                    break
            if attempt + 1 < self._tries:
                self._pause(_wait_s(after, attempt))
        raise error

    def _once(self, method: str, path: str, headers: Mapping[str, str], body: str | None) -> tuple[int, str, str]:
        connection = self._kept or self._connect()
        self._kept = connection
        connection.request(method, self._prefix + path, body.encode() if body is not None else None, dict(headers))
        answer = connection.getresponse()
        text = answer.read(_LONGEST).decode(errors="replace")
        return answer.status, text, answer.headers.get("Retry-After", "")

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self.host, timeout=self._timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _wait_s(after: str, attempt: int) -> float:
    """As the server says, else longer each time, and never the same for all machines."""
    if after.isdecimal():
        return min(float(after), _LONGEST_WAIT_S)
    return min(0.2 * 2.0**attempt, _LONGEST_WAIT_S) * (0.5 + random.random() / 2)  # noqa: S311 - a jitter
