"""Names of container images as orchestrators write them, and whether one of a list is such an image."""

from collections.abc import Iterable
from typing import Final

from preprov.model.work import DatasetRef, ImageRef

_SCHEME: Final = "://"
_ENGINE: Final = "docker://"
_HUB: Final = "docker.io"


def image_named(text: str) -> ImageRef:
    """What `registry/name:tag@sha256:…` names, as nodes are told to fetch it: `docker://…` and its digest."""
    name, _, digest = text.partition("@")
    return ImageRef(name if _SCHEME in name else f"{_ENGINE}{name}", digest)


def is_unpinned(ref: ImageRef | DatasetRef) -> bool:
    """True for an image of a registry without a digest: it is another one tomorrow, and no node may fetch it ahead."""
    return isinstance(ref, ImageRef) and ref.uri.startswith(_ENGINE) and not ref.digest


def is_among(wanted: ImageRef, held: Iterable[ImageRef]) -> bool:
    """True unless it is certain that none of `held` is that image.

    One that is told by its tag alone may be what another is told by its digest alone.
    """
    repository, tag = _parts(wanted.uri)
    for other in held:
        name, theirs = _parts(other.uri)
        if name != repository:
            continue
        if wanted.digest and other.digest:
            if wanted.digest == other.digest:
                return True
        elif not (tag and theirs) or tag == theirs:
            return True
    return False


def _parts(uri: str) -> tuple[str, str]:
    """(repository with its registry, tag or "")."""
    name = uri.partition(_SCHEME)[2] or uri
    name = name.partition("@")[0]
    path, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    first = name.partition("/")[0]
    if not path:
        path = f"{_HUB}/library"
    elif not ("." in first or ":" in first or first == "localhost"):
        path = f"{_HUB}/{path}"
    return f"{path}/{last}", tag
