"""Reading files: digests, gzip seen by its content, and errors that say what, where and what to do."""

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from preprov.model.errors import SourceError

BLOCK: Final = 4 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_CUT_SHORT: Final = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system and the decompressors raise into SourceError.

    Raises:
        SourceError: the file is absent, may not be read, or its compressed stream is damaged or cut short.
    """
    try:
        yield
    except _CUT_SHORT as e:
        raise SourceError(
            f"{path.name} is damaged or cut short: {str(e) or type(e).__name__}",
            where=str(path),
            hint="fetch the file again and compare its checksum; nothing of it was kept",
        ) from None
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}", where=str(path), hint="check the path") from None
    except OSError as e:
        raise SourceError(f"cannot read {path.name}: {e.strerror or e}", where=str(path)) from None


def digest_of(path: Path, *options: object) -> str:
    """SHA-256 of the file's bytes (of a folder: of its files' names and bytes) and of the options that matter.

    Raises:
        SourceError: it cannot be read.
    """
    total = hashlib.sha256()
    with reading(path):
        for file in members(path):
            if path.is_dir():
                total.update(file.relative_to(path).as_posix().encode() + b"\0")
            with file.open("rb") as f:
                total.update(hashlib.file_digest(f, "sha256").digest())
    if any(options):
        total.update(repr(options).encode())
    return total.hexdigest()


def members(path: Path, pattern: str = "*") -> list[Path]:
    """The file itself, or the files below a folder, sorted by name."""
    return sorted(p for p in path.rglob(pattern) if p.is_file()) if path.is_dir() else [path]


def stem(path: Path) -> str:
    """The file's name without what only says how it is packed: `a.swf.gz` is `a`."""
    name = path.name
    for suffix in (".gz", ".xz", ".bz2", ".swf", ".tar", ".tgz", ".json", ".parquet", ".csv"):
        name = name.removesuffix(suffix)
    return name or path.name


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if they are gzip (told by content, not by name)."""
    with path.open("rb") as raw:
        packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield raw


def line_blocks(path: Path, size: int | None = None) -> Iterator[bytes]:
    """The file in blocks of about `size` bytes (BLOCK if not given), each ending at the end of a line.

    Raises:
        SourceError: it is unreadable, damaged or cut short.
    """
    with reading(path), opened(path) as f:
        rest = b""
        while chunk := f.read(size or BLOCK):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield rest + chunk[:end]
                rest = chunk[end:]
            else:
                rest += chunk
        if rest:
            yield rest
