"""One JSON line asks, one JSON line answers: the agent's socket, and the loop that waits for it."""

import json
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from preprov.agent.disk import Json
from preprov.model.agent import LONGEST_LINE

_REPLY_S: Final = 2.0
_PATIENCE_S: Final = 5.0


def bind(path: Path) -> socket.socket:
    """A listening socket at a path of any length (the address itself may have 107 bytes at most)."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    server.listen(64)
    server.setblocking(False)
    return server


class Loop:
    """Waits for requests, for lines of child processes, for their ends, and for the time to come.

    Args:
        path: of the socket. answer: a request's answer; must be quick. tick: does what is due and returns the
        `time.monotonic` instant at which it wants to be called again.
    """

    def __init__(self, path: Path, answer: Callable[[Json], Json], tick: Callable[[], float]) -> None:
        self._answer = answer
        self._tick = tick
        self._selector = selectors.DefaultSelector()
        self._server = bind(path)
        self._clients: dict[socket.socket, tuple[bytearray, float]] = {}
        self._after: list[Callable[[], None]] = []
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        self.stopped = False

    def run(self) -> None:
        """Go on until `stopped` is set."""
        due = self._tick()
        while not self.stopped:
            for key, _ in self._selector.select(max(due - time.monotonic(), 0.0)):
                key.data()
            while self._after:
                self._after.pop(0)()
            self._drop_silent()
            due = self._tick()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()
        for client in list(self._clients):
            self._drop(client)

    def after_reply(self, what: Callable[[], None]) -> None:
        """Do something once the present request is answered."""
        self._after.append(what)

    def watch(self, fd: int, lines: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Hand on each line that comes from a pipe, then its end."""
        os.set_blocking(fd, False)
        rest = bytearray()

        def read() -> None:
            chunk = os.read(fd, 1 << 16)
            rest.extend(chunk)
            *whole, tail = bytes(rest).split(b"\n")
            rest[:] = tail
            for line in whole:
                lines(line)
            if not chunk:
                self._selector.unregister(fd)
                os.close(fd)
                end()

        self._selector.register(fd, selectors.EVENT_READ, read)

    def _reap(self) -> None:
        os.read(self._woken, 4096)
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return

    def _accept(self) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:
            return
        client.setblocking(False)
        self._clients[client] = (bytearray(), time.monotonic())
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        got, _ = self._clients[client]
        try:
            chunk = client.recv(1 << 16)
        except OSError:
            chunk = b""
        got.extend(chunk)
        if b"\n" in chunk:
            self._reply(client, bytes(got))
        elif not chunk or len(got) > LONGEST_LINE:
            self._drop(client)

    def _reply(self, client: socket.socket, line: bytes) -> None:
        try:
            reply = self._answer(json.loads(line))
        except Exception as e:  # one bad request must not end the agent
            traceback.print_exc()
            reply = {"ok": False, "error": "bad-request", "detail": f"{type(e).__name__}: {e}"}
        try:
            client.settimeout(_REPLY_S)
            client.sendall(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
        except OSError:
            pass  # it asks again: every request may be repeated
        self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()

    def _drop_silent(self) -> None:
        for client, (_, since) in list(self._clients.items()):
            if time.monotonic() - since > _PATIENCE_S:
                self._drop(client)
