r"""Put images and datasets on the node's disk, and believe they are there only after reading them back.

The checksum of a dataset is, for a file, the SHA-256 of its bytes; for a folder, the SHA-256 over one line
`<sha256 of the file>  <path>\n` per file, paths relative with `/`, sorted by their bytes. So it can be made with

    cd FOLDER && find . -type f -printf '%P\n' | LC_ALL=C sort | tr '\n' '\0' | xargs -0 sha256sum | sha256sum
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from preprov.agent import disk, engine, image
from preprov.agent.disk import Json
from preprov.agent.items import Item, StageError, local_path
from preprov.model.agent import PreloadStatus

_CHUNK: Final = 1 << 20
_EVERY_S: Final = 0.1
_TELLING: Final = 8 << 20
"""Fewer bytes say nothing of a disk's speed."""


class Meter:
    """Progress of one item, told at most ten times a second."""

    def __init__(self, status: PreloadStatus, tell: Callable[[PreloadStatus], None]) -> None:
        self.status = status
        self._tell = tell
        self._began = time.monotonic()
        self._told = 0.0
        self._since = self._began

    def set(self, state: str, *, total: int | None = None, digest: str = "", error: str = "", done: int = -1) -> None:
        """Tell of a new state."""
        self._since = time.monotonic()
        values = asdict(self.status)
        values |= {"state": state, "seconds": time.monotonic() - self._began}
        values |= {"total_bytes": total} if total is not None else {}
        values |= {"done_bytes": done} if done >= 0 else {}
        values |= {"digest": digest} if digest else {}
        self.status = PreloadStatus(**{**values, "error": error})
        self._told = time.monotonic()
        self._tell(self.status)

    def read_back(self, total: int, min_mb_s: float) -> None:
        """So many bytes were read since the state was set.

        Raises:
            StageError: that was too slow: the disk is not really there yet.
        """
        seconds = max(time.monotonic() - self._since, 1e-6)
        if total < _TELLING:
            return
        speed = total / seconds / 1e6
        self.status = PreloadStatus(**{**asdict(self.status), "read_mb_s": round(speed, 1)})
        if speed < min_mb_s:
            raise StageError(f"{self.status.key}: reads at {speed:.1f} MB/s, should be {min_mb_s:g} at least")

    def add(self, size: int) -> None:
        """Count bytes."""
        done = self.status.done_bytes + size
        if time.monotonic() - self._told >= _EVERY_S:
            since = self._since
            self.set(self.status.state, done=done)
            self._since = since
        else:
            self.status = PreloadStatus(**{**asdict(self.status), "done_bytes": done})


def stage(node: disk.NodeDir, item: Item, tell: Callable[[PreloadStatus], None], *, read_back: bool) -> PreloadStatus:
    """Make sure that an item is on the disk, whole. Safe to call from several processes at once.

    Args:
        node: whose disk.
        item: what.
        tell: called as it goes on.
        read_back: read a dataset again that was verified before (the node was off meanwhile).

    Returns:
        The last status: state "verified" with the digest, or "failed" with the error.
    """
    place = item.place(node)
    place.parent.mkdir(parents=True, exist_ok=True)
    meter = Meter(PreloadStatus(key=item.key, kind=item.kind, state="waiting"), tell)
    lock = disk.Lock(place.with_suffix(".lock"))
    if not lock.take(3600.0):
        meter.set("failed", error="another process has been staging it for an hour")
        return meter.status
    try:
        found = _present(place, item, meter, read_back=read_back)
        if found is None:
            found = _fetch(node, place, item, meter)
        meter.set("verified", digest=str(found["digest"]), total=int(found["bytes"]), done=int(found["bytes"]))
    except StageError as e:
        meter.set("failed", error=str(e))
    except OSError as e:
        meter.set("failed", error=f"{item.uri}: {e.strerror or e}")
    finally:
        lock.drop()
    return meter.status


def checksum(path: Path, count: Callable[[int], None] = lambda _: None) -> str:
    """Checksum of a file or folder, as the head of this module defines it; reads every byte."""
    if not path.is_dir():
        return _sha256(path, count)
    total = hashlib.sha256()
    for relative, file in files_of(path):
        total.update(f"{_sha256(file, count)}  {relative}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """(relative path, path) of all files below, links to files followed, by the bytes of the relative path."""
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if path.is_file():
                found.append((path.relative_to(folder).as_posix(), path))
    return sorted(found, key=lambda f: os.fsencode(f[0]))


def _sha256(path: Path, count: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
            count(len(chunk))
    return digest.hexdigest()


def _present(place: Path, item: Item, meter: Meter, *, read_back: bool) -> Json | None:
    """What was verified before, if it still holds."""
    found = disk.read_json(place / "verified.json")
    if found is None:
        return None
    if found.get("engine"):
        return found if engine.holds(str(found["engine"]), item) else None
    content = place / str(found["path"])
    if item.kind == "image" and image.tree_of(content) != found["tree"]:
        return None
    if not content.exists():
        return None
    return _read_back(content, found, item, meter) if read_back else found


def _read_back(content: Path, found: Json, item: Item, meter: Meter) -> Json | None:
    """Every byte is read, which also brings what a disk made from a snapshot has not fetched yet.

    Raises:
        StageError: it is whole, but too slow.
    """
    total = int(found["bytes"]) if item.kind == "dataset" else sum(f.stat().st_size for _, f in _content(content))
    wanted = found["digest"] if item.kind == "dataset" else found.get("content")
    for _, file in _content(content):
        _forget(file)
    meter.set("verifying", total=total, done=0)
    if checksum(content, meter.add) != wanted:
        return None
    meter.read_back(total, item.min_mb_s)
    return found


def _forget(file: Path) -> None:
    """Drop the cache of a file, so that reading it reads the disk."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _fetch(node: disk.NodeDir, place: Path, item: Item, meter: Meter) -> Json:
    """Bring the item, check it, and only then say that it is there."""
    shutil.rmtree(place, ignore_errors=True)
    kept_by = engine.of(item)
    if kept_by:
        meter.set("staging")
        place.mkdir(parents=True)
        found = engine.pull(kept_by, item)
        disk.write_json(place / "verified.json", found)
        return found
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    source = local_path(item.uri)
    meter.set("staging")
    remote = source is None
    if source is None:
        source = part / "remote" / (item.uri.rstrip("/").rsplit("/", 1)[-1] or "data")
        _bring(item.uri, source, meter)
    elif not source.exists():
        raise StageError(f"{item.uri} does not exist")
    if item.kind == "image":
        found = _image(source, part, item, meter)
    else:
        found = _dataset(source, part, item, meter, already_here=remote)
    shutil.rmtree(part / "remote", ignore_errors=True)
    disk.write_json(part / "verified.json", found)
    part.rename(place)
    _sync(place.parent)
    return found


def _image(source: Path, part: Path, item: Item, meter: Meter) -> Json:
    meter.set("staging", total=image.size_of(source), done=0)
    digest = image.unpack(source, part / "rootfs", item.checksum, meter.add)
    meter.set("verifying")
    return {
        "path": "rootfs",
        "digest": digest,
        "bytes": meter.status.done_bytes,
        "tree": image.tree_of(part / "rootfs"),
        "content": checksum(part / "rootfs"),
    }


def _dataset(source: Path, part: Path, item: Item, meter: Meter, *, already_here: bool) -> Json:
    target = part / (source.name or "data")
    wanted = item.checksum.removeprefix("sha256:").lower()
    if already_here:
        source.rename(target)
    else:
        _copy_all(source, target, meter)
        wanted = wanted or checksum(source)
    total = sum(f.stat().st_size for _, f in _content(target))
    meter.set("verifying", total=total, done=0)
    digest = checksum(target, meter.add)
    if wanted and digest != wanted:
        raise StageError(f"{item.key}: checksum is {digest}, should be {wanted}")
    meter.read_back(total, item.min_mb_s)
    return {"path": target.name, "digest": digest, "bytes": total}


def _content(source: Path) -> list[tuple[str, Path]]:
    return files_of(source) if source.is_dir() else [("", source)]


def _copy_all(source: Path, target: Path, meter: Meter) -> None:
    files = _content(source)
    meter.set("staging", total=sum(f.stat().st_size for _, f in files), done=0)
    if source.is_dir():
        target.mkdir()
    for relative, file in files:
        copy = target / relative if relative else target
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, copy, meter.add)


def _copy(source: Path, target: Path, count: Callable[[int], None]) -> None:
    """Copy, force to disk, and drop the cache, so that reading back reads the disk."""
    with source.open("rb") as f, target.open("wb") as out:
        while chunk := f.read(_CHUNK):
            out.write(chunk)
            count(len(chunk))
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bring(uri: str, target: Path, meter: Meter) -> None:
    """Fetch from elsewhere in a program of its own, which may load fsspec; the agent stays small."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "preprov.agent.stage", uri, str(target)]
    error = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as child:
        for line in _lines(child):
            if "error" in line:
                error = str(line["error"])
            else:
                meter.set("staging", total=line.get("total"), done=int(line["done"]))
    if child.returncode or error:
        raise StageError(f"{uri}: {error or f'fetching ended with {child.returncode}'}")


def _lines(child: "subprocess.Popen[str]") -> Iterator[Json]:
    for line in child.stdout or ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
