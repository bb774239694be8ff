"""What a stored model may be: a format that holds numbers and text, never a program.

The container is recognised by its own marks, so that nothing unknown can pass under a safe name; and whatever the name,
bytes that are a pickle, or hold one, are refused. Nothing is ever unpickled to find out.
"""

import bz2
import io
import json
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from preprov.model.errors import UnsafeModelError

_PICKLE_SUFFIXES: Final = (".pkl", ".pickle", ".joblib", ".dill")
_HEAD: Final = 2**20


def check(fmt: str, blob: bytes, where: str) -> None:
    """Let bytes of a safe format pass.

    Raises:
        UnsafeModelError: they are a pickle, hold one, are in no container of `CONTAINERS`, or in another than `fmt`
            says. A format that names no container (a model's own) may be in any of them.
    """
    if reason := _pickled(blob):
        raise UnsafeModelError(f"the model {reason}: it could run code", where=where, hint="save it in a safe format")
    containers = [name for name, recognises in CONTAINERS.items() if recognises(blob)]
    if not containers:
        raise UnsafeModelError(
            "the model is in none of the formats that cannot run code",
            where=where,
            hint=f"save it as one of {', '.join(CONTAINERS)}",
        )
    if fmt in CONTAINERS and fmt not in containers:
        raise UnsafeModelError(
            f"the model is {containers[0]}, though it says {fmt}", where=where, hint="train it again"
        )


def _pickled(blob: bytes, depth: int = 0) -> str:
    """Why these bytes are a pickle or hold one; "" if they are not and do not."""
    if _is_pickle(blob):
        return "is a pickle"
    if (archive := _archive(blob)) is not None:
        return _pickled_member(archive)
    if depth == 0 and (inner := _decompressed(blob)) and _pickled(inner, 1):
        return "is a compressed pickle"
    return ""


def _is_pickle(blob: bytes) -> bool:
    """True if the bytes are a pickle of protocol 0 to 5 (read as opcodes, nothing is executed)."""
    if blob[:1] == b"\x80" and blob[1:2] <= b"\x10" and len(blob) > 2:
        return True  # protocol 2 and later say so in the first two bytes; a damaged one is no better
    try:
        opcodes = 0
        for opcode, _, _ in pickletools.genops(blob):
            opcodes += 1
            if opcode.name in ("GLOBAL", "INST", "REDUCE", "BUILD"):
                return True
    except (ValueError, IndexError, UnicodeDecodeError):
        return False
    return opcodes > 1


def _archive(blob: bytes) -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(io.BytesIO(blob))
    except (zipfile.BadZipFile, ValueError):
        return None


def _pickled_member(archive: zipfile.ZipFile) -> str:
    for name in archive.namelist():
        if name.lower().endswith(_PICKLE_SUFFIXES):
            return f"holds the pickle {name}"
        with archive.open(name) as member:
            head = member.read(_HEAD)
        if _is_pickle(head):
            return f"holds the pickle {name}"
        if head[:6] == b"\x93NUMPY" and b"'|O'" in head[:512]:
            return f"holds {name}, an array of pickled objects"
    return ""


def _decompressed(blob: bytes) -> bytes:
    """The beginning of what was compressed; b"" if it was not."""
    opens: tuple[Callable[[], bytes], ...] = (
        lambda: zlib.decompressobj(47).decompress(blob, _HEAD),  # zlib or gzip, whichever it is
        lambda: bz2.BZ2Decompressor().decompress(blob, _HEAD),
        lambda: lzma.LZMADecompressor().decompress(blob, _HEAD),
    )
    for attempt in opens:
        try:
            return attempt()
        except (zlib.error, OSError, ValueError, lzma.LZMAError, EOFError):
            continue
    return b""


# --------------------------------------------------------------------------- formats


def _names(blob: bytes) -> list[str]:
    archive = _archive(blob)
    return [] if archive is None else archive.namelist()


def _is_skops(blob: bytes) -> bool:
    return "schema.json" in _names(blob)


def _is_npz(blob: bytes) -> bool:
    names = _names(blob)
    return bool(names) and all(n.endswith(".npy") for n in names)


def _is_safetensors(blob: bytes) -> bool:
    size = int.from_bytes(blob[:8], "little")
    return 2 <= size <= len(blob) - 8 and _is_json(blob[8 : 8 + size])


def _is_json(blob: bytes) -> bool:
    try:
        json.loads(blob)
    except ValueError:
        return False
    return True


def _is_lightgbm(blob: bytes) -> bool:
    return blob.startswith(b"tree\n")


CONTAINERS: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "skops": _is_skops,
    "npz": _is_npz,
    "json": _is_json,
    "lightgbm": _is_lightgbm,
    "safetensors": _is_safetensors,
}
