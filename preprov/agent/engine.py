"""Images that tasks run from a container engine: pulled by digest into the engine's own store, and asked for there."""

import json
import re
import shutil
import subprocess
from typing import Final

from preprov.agent.disk import Json
from preprov.agent.items import Item, StageError

_SCHEME: Final = "docker://"
ENGINES: Final = ("nerdctl", "docker", "podman")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def of(item: Item) -> str:
    """The engine that keeps an image, `docker://registry/name`; "" = it is one to be unpacked.

    Raises:
        StageError: it is an engine's, but there is none, or its digest is not named.
    """
    if item.kind != "image" or not item.uri.startswith(_SCHEME):
        return ""
    if not _DIGEST.fullmatch(item.checksum):
        raise StageError(f"{item.uri}: an image of a registry is named by its digest, sha256:<64 hex digits>")
    found = next((e for e in ENGINES if shutil.which(e)), "")
    if not found:
        raise StageError(f"{item.uri}: there is no container engine here ({', '.join(ENGINES)})")
    return found


def pull(engine: str, item: Item) -> Json:
    """Have the engine fetch the image, and believe that it has it only when it says so.

    Raises:
        StageError: it could not, or has another.
    """
    done = subprocess.run([engine, "pull", "--quiet", _named(item)], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise StageError(f"{engine} could not pull {_named(item)}: {' '.join(said)[:500]}")
    if not holds(engine, item):
        raise StageError(f"{engine} has no {_named(item)} after it was pulled")
    return {"path": ".", "digest": item.checksum, "bytes": 0, "engine": engine}


def holds(engine: str, item: Item) -> bool:
    """True if the engine says that it has the image with that digest."""
    done = subprocess.run([engine, "image", "inspect", _named(item)], capture_output=True, check=False)
    if done.returncode:
        return False
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return False
    digests = [str(d) for one in found for d in (*(one.get("RepoDigests") or ()), one.get("Digest", ""))]
    return any(d.endswith(item.checksum) for d in digests)


def _named(item: Item) -> str:
    name = item.uri.removeprefix(_SCHEME).partition("@")[0]
    return f"{name}@{item.checksum}"
