"""Container images without a container engine: check an OCI layout by its digests and unpack it safely.

Follows the OCI image specification: layout (index.json, blobs), image index, manifest, layers with whiteouts. A tarball
is either such a layout or the root file system itself.
"""

import hashlib
import json
import os
import platform
import posixpath
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from preprov.agent.items import StageError

_CHUNK: Final = 1 << 20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_LARGEST_JSON: Final = 16 << 20

_Count: TypeAlias = Callable[[int], None]


class ImageError(StageError):
    """An image is not what its digest says, or cannot be unpacked safely."""


def size_of(source: Path) -> int:
    """Bytes that `unpack` will check."""
    if source.is_dir():
        return sum(f.stat().st_size for f in (source / "blobs").rglob("*") if f.is_file())
    return source.stat().st_size


def unpack(source: Path, target: Path, wanted: str, count: _Count) -> str:
    """Check an image and unpack its root file system into `target`, which must not exist.

    Args:
        source: an OCI layout folder, a tarball of one, or a tarball of a root file system.
        target: the folder to make.
        wanted: `sha256:…` of the manifest (layout) or of the file (tarball); "" = whatever is there.
        count: told of bytes checked.

    Returns:
        The digest that was checked or, if none was wanted, found.

    Raises:
        ImageError: a digest does not match, or the content would leave `target`.
        OSError: it cannot be read or written.
    """
    if wanted and not _DIGEST.fullmatch(wanted):
        raise ImageError(f"digest {wanted!r} is not of the form sha256:<64 hex digits>")
    try:
        if source.is_dir():
            return _unpack_layout(source, target, wanted, count)
        return _unpack_tarball(source, target, wanted, count)
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as e:
        raise ImageError(f"{source.name}: {type(e).__name__}: {e}") from e


def tree_of(folder: Path) -> str:
    """Digest over the names, kinds and sizes below a folder: cheap, finds what is missing or cut short."""
    digest = hashlib.sha256()
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *folders]):
            path = Path(base, name)
            info = path.lstat()
            extent = path.readlink() if path.is_symlink() else "/" if path.is_dir() else info.st_size
            digest.update(f"{path.relative_to(folder)}\x1f{extent}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# ---- where the layers are


def _unpack_tarball(source: Path, target: Path, wanted: str, count: _Count) -> str:
    digest = "sha256:" + _sha256(source, count)
    if wanted and digest != wanted and not _holds_layout(source):
        raise ImageError(f"{source.name}: digest is {digest}, should be {wanted}")
    if not _holds_layout(source):
        target.mkdir(parents=True)
        _apply(source, target)
        return digest
    layout = target.with_name(target.name + ".layout")
    layout.mkdir(parents=True)
    try:
        _apply(source, layout)
        found = _unpack_layout(layout, target, "" if digest == wanted else wanted, lambda _: None)
    finally:
        shutil.rmtree(layout, ignore_errors=True)
    return digest if digest == wanted or not wanted else found


def _holds_layout(source: Path) -> bool:
    with tarfile.open(source) as tar:
        names = {posixpath.normpath(n) for n in tar.getnames()}
    if "manifest.json" in names and "oci-layout" not in names:
        raise ImageError(f"{source.name} is an old docker archive: convert it (skopeo copy docker-archive:… oci:…)")
    return "oci-layout" in names


def _unpack_layout(layout: Path, target: Path, wanted: str, count: _Count) -> str:
    if not (layout / "index.json").exists():
        raise ImageError(f"{layout.name} is no OCI layout: it has no index.json")
    descriptor = _choose(layout, _json(layout / "index.json"), wanted)
    manifest = json.loads(_blob(layout, descriptor, count).read_bytes())
    if "config" in manifest:
        _blob(layout, manifest["config"], count)
    layers = [_blob(layout, d, count) for d in manifest["layers"]]
    for d in manifest["layers"]:
        if "zstd" in d.get("mediaType", ""):
            raise ImageError("a layer is packed with zstd; use gzip")
    target.mkdir(parents=True)
    for layer in layers:
        _apply(layer, target)
    return str(descriptor["digest"])


def _choose(layout: Path, index: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The descriptor of the manifest with the digest wanted, else of the one for this machine."""
    found = _manifests(layout, index)
    if wanted:
        exact = [d for d in found if d["digest"] == wanted]
        if not exact:
            there = ", ".join(str(d["digest"]) for d in found[:4]) or "none"
            raise ImageError(f"manifest {wanted} is not in the layout; there: {there}")
        return exact[0]
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fitting = [d for d in found if d.get("platform", {}).get("architecture", machine) == machine]
    if len({d["digest"] for d in fitting}) != 1:
        raise ImageError(f"the layout holds {len(fitting)} images for {machine}: name one by its digest")
    return fitting[0]


def _manifests(layout: Path, index: dict[str, Any], depth: int = 0) -> list[dict[str, Any]]:
    out = []
    for d in index.get("manifests", ()):
        if d.get("mediaType", "").endswith(("image.index.v1+json", "manifest.list.v2+json")) and depth < 4:
            out.extend(_manifests(layout, _json(_blob(layout, d, lambda _: None)), depth + 1))
        else:
            out.append(d)
    return out


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_JSON:
        raise ImageError(f"{path.name} is too large to be an index")
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ImageError(f"{path.name} is no JSON object")
    return value


def _blob(layout: Path, descriptor: dict[str, Any], count: _Count) -> Path:
    """Path of a blob whose size and digest were just checked."""
    digest = str(descriptor["digest"])
    if not _DIGEST.fullmatch(digest):
        raise ImageError(f"unsupported digest {digest!r}")
    path = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if not path.exists():
        raise ImageError(f"blob {digest} is missing")
    found = "sha256:" + _sha256(path, count)
    if found != digest or path.stat().st_size != descriptor.get("size", path.stat().st_size):
        raise ImageError(f"blob {digest} is damaged: its content has {found}")
    return path


def _sha256(path: Path, count: _Count) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
            count(len(chunk))
    return digest.hexdigest()


# ---- one layer onto the tree


def _apply(archive: Path, target: Path) -> None:
    """Lay one archive over the tree: first what it takes away, then what it brings."""
    with tarfile.open(archive) as tar:
        members = [(m, _clean(m.name)) for m in tar.getmembers()]
        for _, name in members:
            if posixpath.basename(name).startswith(_WHITEOUT):
                _take_away(target, name)
        for member, name in members:
            bare = posixpath.basename(name).startswith(_WHITEOUT)
            if name and not bare and not (member.ischr() or member.isblk() or member.isfifo()):
                _bring(tar, member, name, target)


def _clean(name: str) -> str:
    """Relative path without dots; "" is the root itself."""
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise ImageError(f"unsafe path {name!r} in an archive")
    return "/".join(parts)


def _take_away(target: Path, name: str) -> None:
    parent = _parent(target, name, make=False)
    if parent is None:
        return
    base = posixpath.basename(name)
    gone = list(parent.iterdir()) if base == _OPAQUE else [parent / base.removeprefix(_WHITEOUT)]
    for path in gone:
        if path.parent == parent and path.name not in ("", ".", ".."):
            _remove(path)


def _bring(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, target: Path) -> None:
    parent = _parent(target, name, make=True)
    if parent is None:
        raise ImageError(f"no folder for {name}")
    path = parent / posixpath.basename(name)
    if member.isdir():
        if path.is_dir() and not path.is_symlink():
            return
        _remove(path)
        path.mkdir()
        return
    _remove(path)  # a file is never written through what an earlier layer put there
    if member.issym():
        path.symlink_to(_rerooted(name, member.linkname))
    elif member.islnk():
        _link(target, name, _clean(member.linkname), path)
    elif member.isreg():
        _write(tar, member, path)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ImageError(f"{member.name} has no content")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
        os.fchmod(fd, member.mode & 0o755 | 0o600)  # no more rights to others, and none to become another user


def _link(target: Path, name: str, link: str, path: Path) -> None:
    parent = _parent(target, link, make=False)
    source = parent / posixpath.basename(link) if parent and link else None
    if source is None or not (source.is_symlink() or source.is_file()):
        raise ImageError(f"{name} is a hard link to {link}, which is no file of the image")
    os.link(source, path, follow_symlinks=False)


def _parent(target: Path, name: str, *, make: bool) -> Path | None:
    """Real folder that is to hold `name`, inside the tree for sure; None if absent and not to be made.

    Raises:
        ImageError: it would lie outside.
    """
    root = target.resolve(strict=True)
    at = root
    for part in name.split("/")[:-1]:
        step = at / part
        if not step.exists():
            if not make:
                return None
            _remove(step)  # a dangling link
            step.mkdir()
        at = step.resolve(strict=True)
        if not at.is_relative_to(root) or not at.is_dir():
            raise ImageError(f"{name} would be written outside the image")
    return at


def _rerooted(name: str, link: str) -> str:
    """A link as it would be seen with the tree as root: one that leaves the tree is bent back into it."""
    here = "/" + posixpath.dirname(name)
    depth = 0
    for part in posixpath.join(here, link).split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            break
    if not link.startswith("/") and depth >= 0:
        return link
    absolute = posixpath.normpath("/" + posixpath.join(here, link).lstrip("/"))
    return posixpath.relpath(absolute, here)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
