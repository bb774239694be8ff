"""Tasks on nodes of a cloud: their agents are asked over mutual TLS in the private network.

A node's certificate is the one that its reports name, this controller's is left for it as a note: see
`preprov.agent.channel`.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from preprov.contracts import Clock, TaskReport
from preprov.launch.agents import AgentScheduler
from preprov.launch.identity import Identity
from preprov.model.agent import exchange
from preprov.model.errors import ConflictError, PoolError
from preprov.model.nodes import Node
from preprov.model.work import TaskRun

_ANSWER_S: Final = 10.0
_SCHEME: Final = "tls://"
_INTRODUCED_S: Final = 30.0
"""A node that does not know us is told at most this often: it takes some seconds to read its notes."""


class _Line:
    """A connection that is kept, for one request after the other."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._socket: ssl.SSLSocket | None = None
        self._stream: Any = None

    def ask(
        self, connect: Callable[[Node], ssl.SSLSocket], node: Node, verb: str, arguments: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer; a kept connection that has broken meanwhile is made anew once, for every request may be repeated.

        Raises:
            OSError, ValueError: there is none.
        """
        if self._stream is not None:
            try:
                return self._exchanged(verb, arguments)
            except (OSError, ValueError):
                self.drop()
        self._socket = connect(node)
        self._stream = self._socket.makefile("rwb")
        return self._exchanged(verb, arguments)

    def _exchanged(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        reply = json.loads(exchange(self._stream, verb, **arguments))
        return reply if isinstance(reply, dict) else None

    def drop(self) -> None:
        """Hang up."""
        for open_ in (self._stream, self._socket):
            if open_ is not None:
                with contextlib.suppress(OSError):
                    open_.close()
        self._stream = self._socket = None


class RemoteScheduler(AgentScheduler):
    """Runs commands on nodes of a cloud; see `AgentScheduler`.

    Args:
        name: of the provider whose nodes they are.
        home: where this controller's key is.
        clock: instants given to and taken from this object are on it.
        introduce: leaves notes on a node, so that it knows us; PoolError if it cannot.
        speed: seconds of the clock per wall second.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        clock: Clock,
        introduce: Callable[[Node, dict[str, str]], None],
        *,
        speed: float = 1.0,
    ) -> None:
        super().__init__(clock, speed=speed)
        self.name = name
        self._home, self._introduce = home, introduce
        self._lock = Lock()
        self._identity: Identity | None = None
        self._context: ssl.SSLContext | None = None
        self._lines: dict[str, _Line] = {}
        self._introduced: dict[str, float] = {}
        self._strangers: set[str] = set()
        self._ran_on: dict[str, Node] = {}

    def start(self, task: TaskRun, instance: int, node: Node) -> None:
        """As the contract says; a node that does not know us yet is a ConflictError, and is told who we are."""
        if not node.address.startswith(_SCHEME):
            self._make_known(node)
            raise ConflictError("it takes no tasks from us yet", where=node.node_id, hint="observe again")
        try:
            super().start(task, instance, node)
        except ConflictError:
            if node.node_id in self._strangers:
                self._make_known(node)
            raise
        self._ran_on[task.claimant(instance)] = node

    def poll(self, nodes: Sequence[Node]) -> tuple[TaskReport, ...]:
        """As the contract says; writes nothing: a node that does not know us has no task of ours."""
        known = [n for n in nodes if n.address.startswith(_SCHEME)]
        found = super().poll(known)
        there = {n.node_id: n for n in known}
        self._ran_on.update({r.claimant: there[r.node_id] for r in found})
        return found

    def logs(self, claimant: str) -> Iterator[str]:
        """As the contract says; of nodes that this object has spoken to."""
        node = self._ran_on.get(claimant)
        offset, rest = 0, ""
        while node is not None:
            reply = self._ask(node, "log", claimant=claimant, offset=offset)
            if reply is None or not reply.get("ok"):
                raise ConflictError("its agent did not answer", where=node.node_id, hint="try again")
            piece, offset = base64.b64decode(reply["text"]), int(reply["next"])
            if not piece:
                break
            *lines, rest = (rest + piece.decode(errors="replace")).split("\n")
            yield from lines
        if rest:
            yield rest

    # ---- inside

    def _ask(self, node: Node, verb: str, **arguments: Any) -> dict[str, Any] | None:
        if not node.address.startswith(_SCHEME):
            return None
        with self._lock:
            line = self._lines.setdefault(node.address, _Line())
        with line.lock:
            try:
                return line.ask(self._connected, node, verb, arguments)
            except ssl.SSLError:  # it knows another controller
                self._strangers.add(node.node_id)
            except (OSError, ValueError):
                pass
            line.drop()
            return None

    def _connected(self, node: Node) -> ssl.SSLSocket:
        """A new connection to the machine that its reports name, and to no other.

        Raises:
            OSError: it does not answer. PoolError: another machine does.
        """
        where, _, digest = node.address.removeprefix(_SCHEME).partition("#")
        host, _, port = where.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=_ANSWER_S)
        try:
            secure = self._secure().wrap_socket(plain)
        except OSError:
            plain.close()
            raise
        shown = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(shown, digest):
            secure.close()
            raise PoolError("another machine answers at its address", where=node.node_id, hint="observe again")
        return secure

    def _secure(self) -> ssl.SSLContext:
        """Who answers is known by its digest, not by a name: addresses come and go."""
        with self._lock:
            if self._context is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.load_cert_chain(str(self._me().file))
                self._context = context
            return self._context

    def _me(self) -> Identity:
        self._identity = self._identity or Identity(self._home)
        return self._identity

    def _make_known(self, node: Node) -> None:
        """Leave our certificate on it, unless that was just done.

        Raises:
            PoolError: it cannot be written.
        """
        now = time.monotonic()
        if now - self._introduced.get(node.node_id, -_INTRODUCED_S) >= _INTRODUCED_S:
            self._introduced[node.node_id] = now
            self._strangers.discard(node.node_id)
            self._introduce(node, self._me().notes())
