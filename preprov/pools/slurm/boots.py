"""Which boot of a node is under way: a small file per node on the host of slurmctld, one writer at a time.

A launch is sent with a token that follows from it, so that a program which is called again, or was killed between the
launch and its answer, means the same machine; the next boot has the next number, and so another token.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from preprov.model.errors import PoolError
from preprov.model.plans import stable_id


@dataclass
class Boot:
    """Of one node, while its file is held.

    Attributes:
        serial: how many machines it had before. failures: boots in a row that did not come in time.
        refused: why there was no machine for this boot; "" = there was. Slurm forgets it at its ResumeTimeout.
    """

    where: str
    name: str
    serial: int = 0
    failures: int = 0
    refused: str = ""

    @property
    def token(self) -> str:
        """Of the machine of this boot."""
        return stable_id("slurm", self.where, self.name, self.serial)

    def ended(self) -> None:
        """Its machine is no more."""
        self.serial += 1

    def came(self) -> None:
        """It joined."""
        self.failures = 0

    def failed(self) -> None:
        """It did not come, and its machine is no more."""
        self.failures += 1
        self.serial += 1


class Boots:
    """The files.

    Args:
        folder: where they are; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def of(self, where: str, name: str) -> Iterator[Boot]:
        """The node's boot; what is changed inside the `with` is kept, whatever else goes wrong there.

        Raises:
            PoolError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(self._folder / f"{quote(where, safe='')}-{quote(name, safe='')}.json", _FLAGS, 0o600)
        except OSError as e:
            hint = "set PREPROV_HOME to a folder that SlurmUser may write"
            raise PoolError(f"cannot write: {e.strerror}", where=str(self._folder), hint=hint) from e
        with os.fdopen(file, "r+") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            boot = _read(f.read(), where, name)
            before = replace(boot)
            try:
                yield boot
            finally:
                if boot != before:
                    f.seek(0)
                    f.truncate()
                    json.dump({"serial": boot.serial, "failures": boot.failures, "refused": boot.refused}, f)
                    f.flush()
                    os.fsync(f.fileno())


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def _read(text: str, where: str, name: str) -> Boot:
    """A file that a crash left empty or cut short counts as none: a token that was used makes nothing again."""
    try:
        raw = json.loads(text) if text else {}
        return Boot(where, name, int(raw.get("serial", 0)), int(raw.get("failures", 0)), str(raw.get("refused", "")))
    except (ValueError, AttributeError, TypeError):
        return Boot(where, name)
