"""The agent as one archive: its modules and the nouns it shares, nothing else. The same sources make the same bytes."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import preprov

_SHARED: Final = ("__init__.py", "model/__init__.py", "model/agent.py", "model/notes.py")
NAME: Final = "preprov-agent.tar.xz"


@dataclass(frozen=True)
class Package:
    """A `.tar.xz` that is unpacked into a folder, which is then on the path of Python."""

    content: bytes

    @property
    def sha256(self) -> str:
        """Of the archive."""
        return hashlib.sha256(self.content).hexdigest()


def agent_package() -> Package:
    """The agent of this version of preprov."""
    root = Path(preprov.__file__).parent
    files = sorted({*(root / "agent").rglob("*.py"), *(root / name for name in _SHARED)})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=9, format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            content = file.read_bytes()
            info = tarfile.TarInfo(f"preprov/{file.relative_to(root).as_posix()}")
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return Package(out.getvalue())
