"""Which of the public traces are here, and whether they are those that the published figures rest on. Prints a table.

    python -m benchmarks.traces [FOLDER]

Ends with 1 if a trace that is here is another one; what is missing is said, and is no failure.
"""

import hashlib
import sys
import tomllib
from pathlib import Path

from benchmarks.machine import traces


def state(folder: Path, path: str, sha256: str) -> str:
    """The trace as it is found: here, missing, or another one."""
    file = folder / path
    if not file.exists():
        return "missing"
    with file.open("rb") as f:
        return "here" if hashlib.file_digest(f, "sha256").hexdigest() == sha256 else "ANOTHER FILE"


def main() -> int:
    """Look at each."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else traces()
    known = tomllib.loads(Path(__file__).with_name("traces.toml").read_text())["trace"]
    found = {t["path"]: state(folder, t["path"], t["sha256"]) if folder else "missing" for t in known}
    for trace in known:
        print(f"{found[trace['path']]:12} {trace['path']}  from {' '.join(trace['origin'])}")
    return 1 if "ANOTHER FILE" in found.values() else 0


if __name__ == "__main__":
    sys.exit(main())
