"""How the local provider reaches agents: over their sockets, and through their own program where none answers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import preprov
from preprov.model.agent import exchange
from preprov.model.errors import PoolError

_PROGRAM_S: Final = 120.0
_AT_ONCE: Final = 16


def ask(folder: Path, verb: str, *, timeout: float = 5.0, **arguments: Any) -> bytes | None:
    """The agent's answer to one request, as it came; None if it did not answer in time or is not there."""
    try:
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect(f"/proc/self/fd/{at}/agent.sock")  # an address of any length
            with s.makefile("rwb") as stream:
                return exchange(stream, verb, **arguments)
    except OSError:
        return None
    finally:
        os.close(at)


def ask_all(folders: Sequence[Path], verb: str, *, timeout: float = 5.0, **arguments: Any) -> list[bytes | None]:
    """`ask` many at once; answers in the order of the folders."""
    if not folders:
        return []
    with ThreadPoolExecutor(min(len(folders), _AT_ONCE)) as pool:
        return list(pool.map(lambda f: ask(f, verb, timeout=timeout, **arguments), folders))


def run(verb: str, folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Run the agent's own program on some nodes: start, inspect, thaw, settle, remove or kill.

    Raises:
        PoolError: the program itself failed.
    """
    names = [str(f) for f in folders]
    if not names:
        return {}
    return {Path(k): v for k, v in _program([verb, *names], verb).items()}


def _program(arguments: list[str], what: str) -> dict[str, Any]:
    # it needs nothing that is installed, and nothing that happens to lie in the working directory
    command = [sys.executable, "-S", "-P", "-m", "preprov.agent", *arguments]
    where = arguments[-1]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=_PROGRAM_S, check=True
        )
        answer = json.loads(done.stdout)
    except subprocess.CalledProcessError as e:
        said = e.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise PoolError(f"the agent's program could not {what}: {' '.join(said)}", where=where) from e
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        raise PoolError(f"the agent's program could not {what}: {e}", where=where) from e
    return dict(answer)


def limits() -> str:
    """How nodes started by this user are limited: "cgroup2", "cgroup1" or "rlimit".

    Raises:
        PoolError: the agent's program does not run.
    """
    return str(_program(["limits"], "try limits")["kind"])


def gpus() -> tuple[list[dict[str, Any]] | None, str]:
    """GPUs of this machine as NVML tells of them: uuid, name, memory (GiB), state; None and why, if nobody can tell.

    Raises:
        PoolError: the agent's program does not run.
    """
    told = _program(["gpus"], "look for GPUs")
    return told["gpus"], str(told["why_not"])


def environment(ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What an agent may know of our environment: nothing of preprov's own settings, which may hold a password."""
    kept = {k: v for k, v in ours.items() if not k.startswith("PREPROV_") or k == "PREPROV_FSSPEC_OPTIONS"}
    here = str(Path(preprov.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [ours.get("PYTHONPATH")])])
    return kept
