"""What a controller writes on machines: of which launch they are, and what is to be on their disks."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from datetime import datetime
from typing import TypeAlias

from preprov.contracts import LaunchRequest
from preprov.model.errors import PoolError, UnfinishedError
from preprov.model.notes import CREATED, EXPIRES, GROUP, OFFERING, POOL, PRELOAD, TOKEN, gather, spread
from preprov.model.offerings import Preload

Greeting: TypeAlias = Callable[[], Mapping[str, str]]


def no_greeting() -> Mapping[str, str]:
    """None."""
    return {}


def launch_notes(request: LaunchRequest, now: datetime, where: str) -> dict[str, str]:
    """Notes of the machines of a launch.

    Raises:
        PoolError: what is to be preloaded does not fit.
    """
    notes = {
        **request.tags,
        POOL: request.pool.name,
        GROUP: request.group,
        TOKEN: request.token,
        OFFERING: request.offering.key,
        CREATED: now.isoformat(),
        **preload_notes(request.pool.preload.merged(request.preload), where),
    }
    if request.expires_at is not None:
        notes[EXPIRES] = request.expires_at.isoformat()
    return notes


def preload_notes(preload: Preload, where: str) -> dict[str, str]:
    """What is to be on the disk, as notes; none if nothing is.

    Raises:
        PoolError: it is too long.
    """
    images = [{"key": i.digest or i.uri, "uri": i.uri, "digest": i.digest} for i in preload.images]
    datasets = [{"key": d.key, "uri": d.uri, "sha256": d.sha256} for d in preload.datasets]
    return _spread({"images": images, "datasets": datasets}, where) if images or datasets else {}


def more_preload(notes: Mapping[str, str], preload: Preload, where: str) -> dict[str, str]:
    """Notes that add a preload to the one a machine has; none if it adds nothing.

    Raises:
        PoolError: both together are too long.
    """
    old = gather(PRELOAD, notes) or {"images": [], "datasets": []}
    new = gather(PRELOAD, preload_notes(preload, where)) or {"images": [], "datasets": []}
    both = {k: [*old[k], *(i for i in new[k] if i not in old[k])] for k in old}
    return {} if both == old else _spread(both, where)


def _spread(message: Mapping[str, object], where: str) -> dict[str, str]:
    try:
        return spread(PRELOAD, message)
    except ValueError as e:
        raise PoolError(str(e), where=where, hint="bake an image that holds most of it") from None


@contextmanager
def noting(where: str, made: Sized) -> Iterator[None]:
    """What fails inside leaves a launch unfinished, if it has made machines by now.

    Raises:
        UnfinishedError: in place of what failed; the same launch sent again goes on with them.
    """
    try:
        yield
    except PoolError as e:
        if not made:
            raise
        why = f"machines of the launch are there, and not all of it was noted on them: {e.kind}: {e.what}"
        raise UnfinishedError(why, where=where, hint="the next pass goes on with it") from e


def launch_name(request: LaunchRequest) -> str:
    """Short name of a launch, the same however often it is sent; lower-case letters and digits."""
    return hashlib.sha256(_identity(request).encode()).hexdigest()[:12]


def launch_uuid(request: LaunchRequest) -> str:
    """The launch as a UUID, which some clouds want of a request's id."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, _identity(request)))


def _identity(request: LaunchRequest) -> str:
    return "\x1f".join((request.pool.name, request.group, request.token))
