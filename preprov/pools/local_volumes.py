"""Volumes of the local provider: a folder each, beside the nodes, with a sparse file that is the disk.

A volume is attached by a link in its node's folder: `$PREPROV_NODE_DIR/volumes/NAME`. Each change is one atomic step or
is found half done and finished by the same call made again; what is written in a disk is never moved or copied.
"""

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprov.contracts import NewVolume, Volume
from preprov.model.errors import ConflictError, InsufficientCapacityError, NotFoundError, PoolError
from preprov.model.pools import Pool
from preprov.pools.local_disk import Json, NodeFiles, PoolDisk, read_json, safe_name, write_json

_GIB: Final = 2**30
_BLOCK: Final = 4096
_NOTE: Final = "volume.json"
_DISK: Final = "disk.img"
_MAKING: Final = ".making-"
_GONE: Final = ".gone-"


@dataclass(frozen=True)
class _Files:
    """A volume as its files tell it: its note, and how large its disk is and how much of that is written."""

    path: Path
    note: Json
    size: int
    written: int

    @property
    def disk(self) -> Path:
        return self.path / _DISK


class LocalVolumes:
    """The volumes of one pool. Each call that changes something does so alone.

    Args:
        home: they live under home/volumes, and the nodes under home/nodes.
        pool: whose they are.
    """

    def __init__(self, home: Path, pool: Pool) -> None:
        self._pool = pool
        self._all = home / "volumes"
        self._folder = self._all / safe_name(pool.name)
        self._nodes = PoolDisk(home, pool.name)

    def volumes(self) -> tuple[Volume, ...]:
        """By name."""
        return tuple(self._shown(f) for f in sorted(_found(self._folder), key=lambda f: str(f.note["name"])))

    def create(self, node_id: str, new: NewVolume) -> Volume:
        """Make one in a folder of another name, which gets its own when all is there."""
        with self._nodes.locked():
            self._sweep()
            self._node(node_id)
            path = self._folder / safe_name(new.name)
            if _read(path) is None:
                size = _bytes(new.gib)
                self._must_hold(size)
                self._make(path, new, size)
            return self._shown(self._existing(path.name))

    def _make(self, path: Path, new: NewVolume, size: int) -> None:
        part = self._folder / f"{_MAKING}{path.name}"
        try:
            part.mkdir(mode=0o700, parents=True)
            with (part / _DISK).open("xb") as disk:
                os.fchmod(disk.fileno(), 0o600)
                disk.truncate(size)
                os.fsync(disk.fileno())
            note = {"name": new.name, "pool": self._pool.name, "tenant": new.tenant, "token": new.token, "node_id": ""}
            write_json(part / _NOTE, note)
            part.rename(path)
        except OSError as e:
            raise PoolError(f"cannot make volume {new.name}: {e.strerror}", where=str(self._folder)) from e

    def attach(self, volume_id: str, node_id: str) -> Volume:
        """Note it, then link it: a note without a link still keeps all other nodes away."""
        with self._nodes.locked():
            has, node = self._existing(volume_id), self._node(node_id)
            there = self._attached_to(has)
            if there not in ("", node_id):
                raise ConflictError(f"it is attached to {there}", where=volume_id, hint="detach it there first")
            write_json(has.path / _NOTE, {**has.note, "node_id": node_id})
            link = _link(node, volume_id)
            link.parent.mkdir(mode=0o700, exist_ok=True)
            if not (link.is_symlink() and link.readlink() == has.disk):
                link.unlink(missing_ok=True)
                link.symlink_to(has.disk)
            return self._shown(self._existing(volume_id))

    def detach(self, volume_id: str, node_id: str) -> None:
        """Unlink it, then note it."""
        with self._nodes.locked():
            node, has = self._nodes.node(node_id), _read(self._folder / volume_id)
            if node is not None:
                _link(node, volume_id).unlink(missing_ok=True)
            if has is not None and has.note["node_id"] == node_id:
                write_json(has.path / _NOTE, {**has.note, "node_id": ""})

    def grow(self, volume_id: str, gib: float) -> Volume:
        """A longer file; what is written in it stays where it is."""
        with self._nodes.locked():
            has, size = self._existing(volume_id), _bytes(gib)
            if size > has.size:
                self._must_hold(size - has.size)
                os.truncate(has.disk, size)
            return self._shown(self._existing(volume_id))

    def delete(self, volume_id: str) -> None:
        """Take its name away in one step, then what is left."""
        with self._nodes.locked():
            has = _read(self._folder / volume_id)
            if has is not None:
                there = self._attached_to(has)
                if there:
                    raise ConflictError(f"it is attached to {there}", where=volume_id, hint="detach it first")
                has.path.rename(self._folder / f"{_GONE}{volume_id}")
            self._sweep()

    # ---- inside

    def _existing(self, volume_id: str) -> _Files:
        found = _read(self._folder / volume_id)
        if found is None:
            raise NotFoundError(f"there is no volume {volume_id}", where=self._pool.name)
        return found

    def _node(self, node_id: str) -> NodeFiles:
        node = self._nodes.node(node_id)
        if node is None or node.over:
            raise NotFoundError(f"no such node: {node_id}", where=self._pool.name)
        return node

    def _attached_to(self, has: _Files) -> str:
        """The node that has it; "" if that is gone."""
        node_id = str(has.note["node_id"])
        node = self._nodes.node(node_id) if node_id else None
        return node_id if node is not None and not node.over else ""

    def _shown(self, has: _Files) -> Volume:
        node_id = self._attached_to(has)
        return Volume(
            volume_id=has.path.name,
            name=str(has.note["name"]),
            pool=self._pool.name,
            tenant=str(has.note["tenant"]),
            gib=has.size / _GIB,
            node_id=node_id,
            state="attached" if node_id else "available",
            device=f"volumes/{has.path.name}" if node_id else "",
            token=str(has.note["token"]),
        )

    def _must_hold(self, more: int) -> None:
        """All volumes of this machine could be written full, this one too.

        Raises:
            InsufficientCapacityError: they could not.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        promised = sum(max(f.size - f.written, 0) for pool in self._all.iterdir() for f in _found(pool))
        if more > free - promised:
            room = max(free - promised, 0) / _GIB
            raise InsufficientCapacityError(
                f"{more / _GIB:g} GiB more are wanted, {room:.1f} are left", where=str(self._all), hint="free some"
            )

    def _sweep(self) -> None:
        """Clear away what a crash left half made or half removed. Whoever calls it is alone."""
        if self._folder.is_dir():
            for entry in os.scandir(self._folder):
                if entry.name.startswith((_MAKING, _GONE)):
                    shutil.rmtree(entry.path)


def _found(folder: Path) -> Iterator[_Files]:
    """Volumes whose making was completed."""
    try:
        names = [e.name for e in os.scandir(folder) if not e.name.startswith(".")]
    except OSError:
        return
    for name in names:
        found = _read(folder / name)
        if found is not None:
            yield found


def _read(path: Path) -> _Files | None:
    """None if it is not there (any more), or if either half of it was deleted."""
    note = read_json(path / _NOTE)
    try:
        about = (path / _DISK).stat()
    except OSError:
        return None
    return _Files(path, note, about.st_size, about.st_blocks * 512) if note is not None else None


def _link(node: NodeFiles, volume_id: str) -> Path:
    return node.path / "volumes" / volume_id


def _bytes(gib: float) -> int:
    return math.ceil(gib * _GIB / _BLOCK) * _BLOCK
