"""What the demonstration's nodes are warmed with: an image (an OCI layout, made here) and tonight's input data."""

import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from preprov.demo import program
from preprov.demo.company import DagShape
from preprov.demo.workload import PlannedRun, TaskMaker
from preprov.model.offerings import Preload
from preprov.model.work import DatasetRef, ImageRef

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_PROGRAM: Final = "opt/retailer/work.py"
_BALLAST: Final = 1 << 20
"""Bytes that stand for the libraries an image has; enough for a progress to be seen, little enough for any disk."""
_START: Final = f"import os, runpy; runpy.run_path(os.environ['PREPROV_IMAGE'] + '/{_PROGRAM}', run_name='__main__')"


@dataclass(frozen=True, slots=True)
class Kit:
    """Image and dataset on this machine's disk, with their digests."""

    image: ImageRef
    dataset: DatasetRef

    @property
    def preload(self) -> Preload:
        """Both, for the pool."""
        return Preload((self.image,), (self.dataset,))

    def tasks(self) -> TaskMaker:
        """Makes task specs that run the image's program on the dataset."""
        return _ImageTasks({"images": (self.image,), "datasets": (self.dataset,)})


class _ImageTasks(TaskMaker):
    def command(self, dag: DagShape, name: str) -> tuple[str, ...]:
        # -I -S: nothing of this machine's Python but the standard library, so that a task starts in milliseconds
        return (sys.executable, "-I", "-S", "-c", _START, dag.dag_id, name)


def make_kit(folder: Path, tonight: Sequence[PlannedRun], *, speed: float, seed: int = 0) -> Kit:
    """Write the image and the dataset below `folder`; the same arguments write the same bytes.

    Args:
        folder: made if need be.
        tonight: the runs that will be played.
        speed: their runtimes are divided by it.
        seed: of the ballast.
    """
    digest = _write_image(folder / "image", np.random.default_rng(seed).bytes(_BALLAST))
    sha256 = _write_dataset(folder / "tonight", tonight, speed)
    return Kit(
        ImageRef(str(folder / "image"), digest), DatasetRef(str(folder / "tonight"), version="tonight", sha256=sha256)
    )


def _write_dataset(folder: Path, tonight: Sequence[PlannedRun], speed: float) -> str:
    """Returns the checksum of the folder as the agent defines it."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = {
        r.run_id: {t.name: round(float(s) / speed, 4) for t, s in zip(r.shape.tasks, r.seconds, strict=True)}
        for r in tonight
    }
    content = json.dumps({"runs": runs, "mib": 4, "cpu": 0.02}, indent=1, sort_keys=True).encode()
    (folder / program.INPUT).write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  {program.INPUT}\n"
    return hashlib.sha256(line.encode()).hexdigest()


def _write_image(folder: Path, ballast: bytes) -> str:
    """An OCI layout of one layer; returns the digest of its manifest."""
    layer_tar = _tar({_PROGRAM: Path(program.__file__).read_bytes(), "opt/retailer/libraries.bin": ballast})
    layer = gzip.compress(layer_tar, compresslevel=1, mtime=0)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer_tar)]},
    }
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def keep(kind: str, content: bytes) -> dict[str, Any]:
        digest = _digest(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep("config.v1+json", _json(config)),
        "layers": [keep("layer.v1.tar+gzip", layer)],
    }
    descriptor = keep("manifest.v1+json", _json(manifest))
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [descriptor]}))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(descriptor["digest"])


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
