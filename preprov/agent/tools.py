"""Fetching by the tools that clouds give their users, for nodes that have nothing else installed."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from preprov.agent.items import StageError

_COMMANDS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "s3": (("aws", "s3", "cp", "--only-show-errors", "{uri}", "{target}"),),
    "gs": (
        ("gcloud", "storage", "cp", "{uri}", "{target}"),
        ("gsutil", "-q", "cp", "{uri}", "{target}"),
    ),
    "http": (("curl", "-fsSL", "--retry", "3", "-o", "{target}", "{uri}"),),
    "https": (("curl", "-fsSL", "--retry", "3", "-o", "{target}", "{uri}"),),
    "oci": (("skopeo", "copy", "--quiet", "docker://{name}", "oci:{target}"),),
}
_FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("--recursive",),
    "gcloud": ("--recursive",),
    "gsutil": ("-r",),
}
_MODULES: Final = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_AT_ONCE: Final = ("http", "https")
"""Read by one request of the tool, where fsspec asks several times before it reads; unless it was told how to ask."""
FSSPEC_OPTIONS: Final = "PREPROV_FSSPEC_OPTIONS"
"""Names the variable that holds options by scheme, as JSON."""
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {k: tuple(c[0] for c in v) for k, v in _COMMANDS.items()}
"""URI scheme -> programs that read it."""


def fetch(uri: str, target: Path) -> bool:
    """Fetch a file, or a folder whose URI ends in `/`; False if no tool reads such a URI, or fsspec will.

    Azure's blobs have https URIs (with the rights of a signed URI, or public ones); `azcopy` brings them where it is.

    Raises:
        StageError: the tool failed.
    """
    scheme, _, name = uri.partition("://")
    folder = uri.endswith("/")
    plain = scheme in _AT_ONCE and not folder and scheme not in json.loads(os.environ.get(FSSPEC_OPTIONS, "{}"))
    if not plain and _read_by_fsspec(scheme):
        return False
    command = _command(scheme, uri)
    if command is None:
        return False
    if folder:
        target.mkdir(parents=True, exist_ok=True)
    words = [w.format(uri=uri, name=name, target=target) for w in command]
    if folder:
        words[-2:-2] = _FOLDERS.get(command[0], ())
        if command[0] in ("gcloud", "gsutil"):
            words[-2] = f"{uri}*"  # these make a folder of the URI's own name otherwise
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise StageError(f"{command[0]} could not fetch it: {' '.join(said)[:500]}")
    return True


def _read_by_fsspec(scheme: str) -> bool:
    module = _MODULES.get(scheme)
    return bool(module and importlib.util.find_spec("fsspec") and importlib.util.find_spec(module))


def _command(scheme: str, uri: str) -> tuple[str, ...] | None:
    if scheme == "https" and ".blob.core.windows.net/" in uri and shutil.which("azcopy"):
        return ("azcopy", "copy", "--recursive", "--output-level=quiet", "{uri}", "{target}")
    return next((c for c in _COMMANDS.get(scheme, ()) if shutil.which(c[0])), None)
