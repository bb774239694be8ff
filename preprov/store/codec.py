"""Domain values to JSON text and arrays to bytes, and back exactly."""

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, cast
from zipfile import BadZipFile

import numpy as np
from pydantic import TypeAdapter, ValidationError

from preprov.model.errors import StoreError

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """The validator of a class; it takes milliseconds to build, so each is built once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def dump(value: Any) -> str:
    """A frozen dataclass of `model` as JSON."""
    plain = _adapter(type(value)).dump_python(value, mode="json", fallback=plain_value, warnings=False)
    return dump_json(plain)


def load(kind: type[T], document: str) -> T:
    """What `dump` wrote, equal to what it was given.

    Raises:
        StoreError: the text is not such a value.
    """
    try:
        return cast(T, _adapter(kind).validate_python(json.loads(document)))
    except (ValidationError, ValueError) as error:
        raise StoreError(f"a stored {kind.__name__} cannot be read: {error}") from error


def dump_json(value: Any) -> str:
    """Plain values as compact JSON, numbers of numpy and instants included."""
    return json.dumps(value, separators=(",", ":"), default=plain_value)


def load_json(document: str) -> Any:
    """Parse what `dump_json` wrote."""
    return json.loads(document)


def plain_value(value: Any) -> Any:
    """What JSON has no word for, in words it has.

    Raises:
        TypeError: there is no plain form.
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no plain form")


def dump_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as compressed npz.

    Raises:
        StoreError: one of them holds Python objects, which only a pickle could keep.
    """
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise StoreError(f"array {objects[0]} holds Python objects; only numbers and text are stored")
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def load_arrays(data: bytes) -> dict[str, np.ndarray]:
    """What `dump_arrays` wrote; never unpickles.

    Raises:
        StoreError: the bytes are not such arrays.
    """
    if not data.startswith(b"PK"):  # numpy reads other things than archives too
        raise StoreError("stored arrays cannot be read: they are not an npz archive")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(f"stored arrays cannot be read: {error}") from error
