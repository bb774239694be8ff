"""Where a node of a cloud takes tasks: the agent's own protocol over mutual TLS, in the private network.

Both certificates are self-signed and travel through the letter box, so that no secret does: the node's is named by its
digest in the reports, the controller's stands in a note. Whoever may write the machine's notes may hand it tasks.
"""

import base64
import contextlib
import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from preprov.agent import disk
from preprov.agent.asking import ask_line
from preprov.model.agent import LONGEST_LINE

_VERBS: Final = frozenset({"start", "tasks", "cancel", "limit", "checkpoint", "log", "health"})
"""What may be asked from outside the machine; the rest is for whoever owns it."""
_PATIENCE_S: Final = 60.0
"""Of a connection on which nothing is asked."""
_ANSWER_S: Final = 30.0
_AT_ONCE: Final = 16


class Channel:
    """Serves in threads of its own until closed."""

    def __init__(
        self, node: disk.NodeDir, server: socket.socket, files: tuple[Path, Path], may: Callable[[], bool]
    ) -> None:
        self._node, self._server, self._files, self._may = node, server, files, may
        self._trusted = ""
        self._context: ssl.SSLContext | None = None
        self._room = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._clients: set[ssl.SSLSocket] = set()
        self._closed = False
        host, port = server.getsockname()[:2]
        self.name = f"{host}:{port}#{_digest(files[0])}"
        threading.Thread(target=self._serve, daemon=True, name="channel").start()

    @classmethod
    def open(cls, node: disk.NodeDir, address: tuple[str, int], may: Callable[[], bool]) -> "Channel":
        """Listen at an address.

        Args:
            node: whose tasks they are.
            address: of the machine in its private network, and the port.
            may: False while the node takes no task: it is kept in standby, or about to leave.

        Raises:
            OSError: it cannot listen there, or there is no openssl to make a key with.
        """
        files = _certificate(node)
        server = socket.create_server(address, backlog=32)
        return cls(node, server, files, may)

    def trust(self, certificate: str) -> None:
        """From now on whoever has the key of this certificate (base64 of its DER form) is served, and nobody else.

        Raises:
            ValueError: it is none.
        """
        if certificate == self._trusted and self._context is not None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*map(str, self._files))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=base64.b64decode(certificate))
        self._trusted, self._context = certificate, context
        self._hang_up()

    def close(self) -> None:
        """Hear nobody any more."""
        self._closed = True
        self._hang_up()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    # ---- inside

    def _hang_up(self) -> None:
        """End the connections there are: whoever may still ask connects again."""
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        try:
            with contextlib.closing(client), contextlib.suppress(OSError, ValueError):  # whoever it was asks again
                client.settimeout(_PATIENCE_S)
                if self._context is not None and not self._closed:
                    with self._context.wrap_socket(client, server_side=True) as secure:
                        self._converse(secure)
        finally:
            self._room.release()

    def _converse(self, secure: ssl.SSLSocket) -> None:
        with self._lock:
            self._clients.add(secure)
        try:
            with secure.makefile("rwb") as stream:
                while (line := stream.readline(LONGEST_LINE)) and not self._closed:
                    stream.write(self._answer(line))
                    stream.flush()
        finally:
            with self._lock:
                self._clients.discard(secure)

    def _answer(self, line: bytes) -> bytes:
        request = json.loads(line)
        verb = str(request.pop("verb", ""))
        if verb not in _VERBS:
            return _refusal("unknown-verb", f"{verb}; from outside: {', '.join(sorted(_VERBS))}")
        if verb == "start" and not self._may():
            return _refusal("not-ready", "the node has not been handed over, or is about to leave")
        answer = ask_line(self._node.path, verb, _ANSWER_S, **request)
        return answer if answer is not None else _refusal("silent", "its agent does not answer")


def _refusal(error: str, detail: str) -> bytes:
    return json.dumps({"ok": False, "error": error, "detail": detail}).encode() + b"\n"


def _certificate(node: disk.NodeDir) -> tuple[Path, Path]:
    """The node's own, made once per disk; its key never leaves it."""
    folder = node.path / "channel"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if certificate.exists() and key.exists():
        return certificate, key
    folder.mkdir(mode=0o700, exist_ok=True)
    part = folder / ".key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "3650", "-subj", "/CN=preprov node", "-keyout", str(part), "-out", str(certificate)]
    mask = os.umask(0o077)
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    finally:
        os.umask(mask)
    if done.returncode:
        raise OSError(f"openssl could not make a key: {done.stderr.decode(errors='replace').strip()[-200:]}")
    part.replace(key)
    return certificate, key


def _digest(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
