"""Stored models cannot run code."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from preprov.model.errors import UnsafeModelError
from preprov.store.database import Store
from preprov.store.rows import ModelRow
from preprov.testing.store_examples import T0, npz

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


def object_array() -> bytes:
    out = io.BytesIO()
    np.savez(out, weights=np.array([{"a": 1}], dtype=object))
    return out.getvalue()


def pickles(value: object) -> dict[str, bytes]:
    plain = {f"protocol {p}": pickle.dumps(value, protocol=p) for p in PROTOCOLS}
    last = plain[f"protocol {pickle.HIGHEST_PROTOCOL}"]
    first = plain["protocol 0"]
    return plain | {
        "gzip": gzip.compress(last),
        "zlib": zlib.compress(first),
        "bz2": bz2.compress(last),
        "xz": lzma.compress(first),
        "torch": zipped(**{"archive/data.pkl": last, "archive/version": b"3"}),
        "under another name": zipped(**{"schema.json": b"{}", "weights.npy": first}),
        "joblib in a skops": zipped(**{"schema.json": b"{}", "x.joblib": b""}),
        "truncated": last[:-1],
    }


SAFE = {
    "npz": npz(a=np.arange(3.0), b=np.array(["x"])),
    "json": b'{"a": [1, 2.5, null], "text": "lives."}',
    "lightgbm": b"tree\nversion=v4\nnum_class=1\n",
    "safetensors": safetensors(),
    "skops": zipped(**{"schema.json": b'{"__class__": "RandomForestRegressor"}', "1.npy": npz(a=np.arange(2))}),
}


@pytest.mark.parametrize("fmt", SAFE)
def test_safe_formats_are_kept_and_read_back(store: Store, fmt: str) -> None:
    models = store.ports().models
    made = models.save("p", "learnt", fmt, SAFE[fmt], at=T0, metrics={"wql": 0.1})
    assert models.load("p", "learnt") == (made, SAFE[fmt])


def test_a_models_own_format_may_be_in_any_safe_container(store: Store) -> None:
    models = store.ports().models
    assert models.save("p", "k", "preprov-scaler/1", SAFE["npz"], at=T0, metrics={}).format == "preprov-scaler/1"
    with pytest.raises(UnsafeModelError, match="none of the formats"):
        models.save("p", "k", "preprov-scaler/1", b"\x00\x01binary", at=T0, metrics={})


def test_bytes_that_are_not_what_they_say_are_refused(store: Store) -> None:
    with pytest.raises(UnsafeModelError, match="is npz, though it says json"):
        store.ports().models.save("p", "k", "json", SAFE["npz"], at=T0, metrics={})


@pytest.mark.parametrize("case", pickles(None))
@pytest.mark.parametrize("value", ["data", "bomb"])
def test_a_pickle_is_refused_in_every_disguise_and_never_run(
    store: Store, tmp_path: Path, case: str, value: str
) -> None:
    mark = tmp_path / "unpickled"
    blob = pickles(Bomb(mark) if value == "bomb" else {"a": [1, 2.5, "x"]})[case]
    models = store.ports().models
    for fmt in ("npz", "json", "skops", "own/1"):
        with pytest.raises(UnsafeModelError):
            models.save("p", "k", fmt, blob, at=T0, metrics={})
    assert models.versions() == ()
    plant(store, blob)
    with pytest.raises(UnsafeModelError):
        models.load("p", "k")
    assert not mark.exists()


def test_arrays_of_objects_are_refused(store: Store) -> None:
    with pytest.raises(UnsafeModelError, match="pickled objects"):
        store.ports().models.save("p", "k", "npz", object_array(), at=T0, metrics={})


def plant(store: Store, blob: bytes, *, sha256: str = "", fmt: str = "npz") -> None:
    """Write a champion past the port, as somebody with the database's password could."""
    with store._db.write() as session:
        session.add(
            ModelRow(
                version="planted",
                pool="p",
                kind="k",
                format=fmt,
                sha256=sha256 or hashlib.sha256(blob).hexdigest(),
                created_at=datetime.now(UTC),
                champion=True,
                metrics="{}",
                data=blob,
            )
        )


def test_content_that_was_exchanged_is_refused(store: Store) -> None:
    models = store.ports().models
    models.save("p", "k", "npz", SAFE["npz"], at=T0, metrics={})
    with store._db.write() as session:
        row = session.exec(select(ModelRow)).one()
        row.data = npz(a=np.arange(4))
        session.add(row)
    with pytest.raises(UnsafeModelError, match="digest"):
        models.load("p", "k")


def test_the_same_model_saved_twice_is_one_version(store: Store) -> None:
    models = store.ports().models
    first = models.save("p", "k", "npz", SAFE["npz"], at=T0, metrics={})
    assert models.save("p", "k", "npz", SAFE["npz"], at=T0, metrics={}) == first
    assert models.save("q", "k", "npz", SAFE["npz"], at=T0, metrics={}) != first
    assert len(models.versions()) == 2
