"""`python -m preprov.agent.stage URI TARGET`: fetch a file or folder, telling of progress in JSON lines.

Through fsspec where it is installed and reads such a URI, else by the cloud's own tool. A program of its own, because
fsspec is not part of the standard library: the agent itself never loads it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from preprov.agent import tools

_CHUNK: Final = 4 << 20


def main(argv: list[str]) -> int:
    """Fetch argv[0] into argv[1]; 0 if that went well, else an error line and 1."""
    uri, target = argv[0], Path(argv[1])
    try:
        if not tools.fetch(uri, target):
            _fetch(uri, target)
    except ImportError as e:
        scheme = uri.split("://")[0]
        wanted = " or ".join(tools.PROGRAMS.get(scheme, ())) or "preprov[remote-data]"
        _tell(error=f"{e}; install what reads {scheme}://, such as {wanted}")
    except Exception as e:  # every file system raises errors of its own
        _tell(error=f"{type(e).__name__}: {e}")
    else:
        return 0
    return 1


def _fetch(uri: str, target: Path) -> None:
    import fsspec

    options = json.loads(os.environ.get(tools.FSSPEC_OPTIONS, "{}")).get(uri.split("://")[0], {})
    fs, path = fsspec.core.url_to_fs(uri, **options)
    if fs.isdir(path):
        root = path.rstrip("/") + "/"
        files = {p: target / p.removeprefix(root) for p in fs.find(path)}
    else:
        files = {path: target}
    total, done = sum(int(fs.info(p)["size"] or 0) for p in files), 0
    if target not in files.values():
        target.mkdir(parents=True, exist_ok=True)
    for source, copy in files.items():
        if not copy.resolve().is_relative_to(target.resolve()):
            raise ValueError(f"{source} would be written outside {target}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        done = _copy(fs, source, copy, done, total)


def _copy(fs: Any, source: str, copy: Path, done: int, total: int) -> int:
    with fs.open(source, "rb") as f, copy.open("wb") as out:
        while chunk := f.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            _tell(done=done, total=total)
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that reading back reads the disk
    return done


def _tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
