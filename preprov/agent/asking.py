"""Ask the agent of a node over its socket, from the same machine."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from preprov.agent.disk import Json
from preprov.model.agent import exchange


def ask_line(folder: Path, verb: str, timeout_s: float, **arguments: Any) -> bytes | None:
    """The agent's answer as it came; None if it gave none."""
    try:
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout_s)
            s.connect(f"/proc/self/fd/{at}/agent.sock")  # an address of any length
            with s.makefile("rwb") as stream:
                return exchange(stream, verb, **arguments)
    except OSError:
        return None
    finally:
        os.close(at)


def ask(folder: Path, verb: str, timeout_s: float, **arguments: Any) -> Json | None:
    """The agent's answer; None if it gave none that can be read."""
    line = ask_line(folder, verb, timeout_s, **arguments)
    try:
        value = json.loads(line) if line is not None else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
