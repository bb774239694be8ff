"""What the user data does before the agent can verify anything: packages and commands, told through a file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from preprov.agent import disk
from preprov.model.agent import PreloadStatus

_JOIN_S: Final = 120.0


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

    def run_all(self, commands: Sequence[Sequence[str]], folder: Path) -> str:
        """Run commands in order; what went wrong with the first that failed, "" = nothing."""
        for command in commands:
            try:
                done = subprocess.run(
                    list(command),
                    cwd=folder,
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
