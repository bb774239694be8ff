"""What is done before the agent can verify anything: packages and commands, told through a file.

`python -m preprov.agent setup SPEC FILE` does it, once for each disk; the carrier reads the file meanwhile.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from preprov.agent import disk
from preprov.model.agent import PreloadStatus

_JOIN_S: Final = 120.0
_MANAGERS: Final = {
    "apt-get": (("apt-get", "update", "-q"), ("apt-get", "install", "-y", "-q", "--no-install-recommends")),
    "dnf": ((), ("dnf", "install", "-y", "-q")),
    "yum": ((), ("yum", "install", "-y", "-q")),
    "zypper": ((), ("zypper", "--non-interactive", "install")),
    "apk": (("apk", "update"), ("apk", "add")),
}
"""Package manager -> what it is asked first, and how it installs."""
_KEPT: Final = 300
"""Characters of what a failed step said last."""


class Setup:
    """Reads `{"over": bool, "steps": [{kind, key, state, error}]}`; no file named = there is nothing to wait for.

    A step's state is "verified" or "failed"; the one at work is not listed yet and is named by "now".
    """

    def __init__(self, file: str) -> None:
        self._file = Path(file) if file else None

    def _read(self) -> disk.Json:
        return (disk.read_json(self._file) or {}) if self._file is not None else {"over": True}

    def over(self) -> bool:
        """True if nothing more is to come."""
        return bool(self._read().get("over"))

    def failed(self) -> str:
        """Why it failed; "" = it did not."""
        bad = [s for s in self._read().get("steps", ()) if s.get("state") == "failed"]
        return "; ".join(f"{s['kind']} {s['key']}: {s.get('error') or 'failed'}" for s in bad)

    def reason(self) -> str:
        """What is being done."""
        return str(self._read().get("now", ""))

    def statuses(self) -> tuple[PreloadStatus, ...]:
        """Its steps so far."""
        steps = self._read().get("steps", ())
        return tuple(PreloadStatus(s["key"], s["kind"], s["state"], error=str(s.get("error", ""))) for s in steps)

    def run_all(self, commands: Sequence[Sequence[str]], folder: Path, env: Mapping[str, str]) -> str:
        """Run commands in order, with these variables besides ours.

        Returns what went wrong with the first that failed, "" = nothing.
        """
        for command in commands:
            try:
                done = subprocess.run(
                    list(command),
                    cwd=folder,
                    env={**os.environ, **env},
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    timeout=_JOIN_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                return f"{' '.join(command)}: {e}"
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                return f"{' '.join(command)} ended with {done.returncode}: {' '.join(said)}"
        return ""


def main(argv: Sequence[str]) -> int:
    """Do what SPEC (JSON: packages, commands) asks for; 0 = all went well. What went well before is not done again."""
    spec, file = disk.read_json(Path(argv[0])), Path(argv[1])
    if spec is None:
        sys.stderr.write(f"{argv[0]} is no JSON object\n")
        return 2
    file.parent.mkdir(parents=True, exist_ok=True)
    done = [s for s in (disk.read_json(file) or {}).get("steps", ()) if s["state"] == "verified"]
    known = {(s["kind"], s["key"]) for s in done}
    for kind, key in _asked(spec):
        if (kind, key) in known:
            continue
        _write(file, {"over": False, "steps": done, "now": f"{kind} {key}"})
        error = _package(key) if kind == "package" else _command(key)
        done.append({"kind": kind, "key": key, "state": "failed" if error else "verified", "error": error})
        if error:
            break
    _write(file, {"over": True, "steps": done})
    return 1 if any(s["state"] == "failed" for s in done) else 0


def _asked(spec: disk.Json) -> Iterator[tuple[str, str]]:
    yield from (("package", str(p)) for p in spec.get("packages", ()))
    yield from (("command", str(c)) for c in spec.get("commands", ()))


def _write(file: Path, value: disk.Json) -> None:
    disk.write_json(file, value)
    file.chmod(0o644)


def _package(name: str) -> str:
    """Install one; what went wrong, "" = nothing. The package manager itself says whether it is there."""
    found = next((m for m in _MANAGERS if shutil.which(m)), None)
    if found is None:
        return f"there is no package manager here ({', '.join(_MANAGERS)})"
    first, install = _MANAGERS[found]
    error = _run([*install, name])
    if error and first:  # its lists may be old, or not there yet
        error = _run(first) or _run([*install, name])
    return error


def _command(text: str) -> str:
    return _run(["sh", "-e", "-c", text])


def _run(words: Sequence[str]) -> str:
    sys.stdout.write(f"[preprov] {' '.join(words)}\n")
    sys.stdout.flush()
    try:
        done = subprocess.run(
            list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as e:
        return str(e)
    said = done.stdout.decode(errors="replace")
    sys.stdout.write(said)
    return f"ended with {done.returncode}: {said.strip()[-_KEPT:]}" if done.returncode else ""
