"""Counts that go through Terraform: a variable's file in the root module, which also says who asked for what.

The file is `<variable>.auto.tfvars.json`, which Terraform reads by itself and ignores the key "//" of. The orders kept
there make a launch idempotent by its token, and the diff of a pull request readable; counts and orders change in one
write or not at all.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from preprov.model.errors import PoolError
from preprov.pools.terraform_declared import DeclaredCounts, DeclaredPool

_COMMENT: Final = "//"
_REMEMBERED: Final = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the file says.

    Attributes:
        counts: group -> its counts. orders: token -> what it asked for, oldest first.
    """

    counts: Mapping[str, DeclaredCounts]
    orders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CountsFile:
    """The file of one variable of a root module."""

    folder: Path
    variable: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / f"{self.variable}.auto.tfvars.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else of this machine writes counts of this folder meanwhile.

        Raises:
            PoolError: the folder is not there.
        """
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise PoolError(f"cannot open {self.folder}: {e.strerror}", where=str(self.folder)) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def read(self, declared: DeclaredPool) -> Wanted:
        """What is wanted: the file, and for groups it does not name what was last applied.

        Raises:
            PoolError: it is not as preprov writes it.
        """
        applied = {g.name: g.counts for g in declared.groups}
        if not self.path.exists():
            return Wanted(applied)
        try:
            raw: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            counts = {str(k): DeclaredCounts.model_validate(v) for k, v in raw[self.variable].items()}
            orders = {str(k): str(v) for k, v in (raw.get(_COMMENT) or {}).get("orders", {}).items()}
        except (OSError, ValueError, KeyError, AttributeError) as e:
            raise PoolError(
                f"{self.path.name} cannot be read: {e}", where=str(self.path), hint="put it right, or take it away"
            ) from None
        return Wanted(applied | {k: v for k, v in counts.items() if k in applied}, orders)

    def write(self, wanted: Wanted) -> None:
        """Put it there whole.

        Raises:
            PoolError: it cannot be written.
        """
        orders = dict(list(wanted.orders.items())[-_REMEMBERED:])
        note = "written by preprov: counts of its pools, and who asked for them"
        body = {
            _COMMENT: {"note": note, "orders": orders},
            self.variable: {k: v.model_dump() for k, v in sorted(wanted.counts.items())},
        }
        self._put(json.dumps(body, indent=2) + "\n")

    def text(self) -> str | None:
        """Its content, to be put back; None if it is not there."""
        return self.path.read_text(encoding="utf-8") if self.path.exists() else None

    def put_back(self, text: str | None) -> None:
        """As it was."""
        if text is None:
            self.path.unlink(missing_ok=True)
        else:
            self._put(text)

    def _put(self, text: str) -> None:
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(self.path)
        except OSError as e:
            raise PoolError(f"cannot write {self.path}: {e.strerror}", where=str(self.path)) from None
