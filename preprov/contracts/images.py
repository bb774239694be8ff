"""Machine images: what a pool's nodes are to hold, already on the disk they boot from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from preprov.contracts.pools import LaunchRequest
from preprov.model.nodes import Node
from preprov.model.pools import Pool


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours, as its cloud shows it now.

    Attributes:
        digest: of the preload that is on it, see `Preload.digest`.
        used_by: who names it or runs from it; such an image is never deleted.
    """

    image_id: str
    name: str
    digest: str
    state: Literal["making", "ready", "failed"]
    made_at: datetime
    used_by: tuple[str, ...] = ()


@runtime_checkable
class BakesImages(Protocol):
    """A provider that makes images for a group, from a *bench*: a machine of its template that never takes work.

    A bench is of the group, but not among the nodes that `observe` shows. It is found again by its token, and ended by
    name. Errors and which of them are retryable: as for `PoolProvider`.
    """

    def open_bench(self, request: LaunchRequest) -> tuple[str, ...]:
        """Launch one; returns its id.

        Idempotent: by token. Consistent: as `launch`, watch `benches`. Absent: a group has one bench at most, so
        QuotaExceededError while there is another. Retryable: as `launch`.
        """
        ...

    def benches(self, pool: Pool, group: str) -> tuple[Node, ...]:
        """Those that exist, of whichever token; verified once `ready_at` is set and `preloaded` holds everything.

        Idempotent: reads only. Consistent: as `observe`. Absent: it is gone. Retryable: ThrottledError.
        """
        ...

    def close_benches(self, pool: Pool, group: str, node_ids: Sequence[str]) -> None:
        """End them and their disks, whatever state they are in: none ever took work.

        Idempotent, Absent: success. Consistent: they vanish when the vendor is done. Retryable: ThrottledError.
        """
        ...

    def images(self, pool: Pool, group: str) -> tuple[Image, ...]:
        """Images of ours for this group, the newest first.

        Idempotent: reads only. Consistent: may lag behind writes by seconds. Absent: none is listed. Retryable:
        ThrottledError.
        """
        ...

    def make_image(self, pool: Pool, group: str, node_id: str, digest: str) -> None:
        """Begin to make an image of a verified bench, stopped first where the cloud wants that; watch `images`.

        Idempotent: by (pool, group, digest), there is one. Consistent: over minutes. Absent: NotFoundError, there is no
        such bench. Retryable: ThrottledError, ConflictError (the bench is still on its way to sleep).
        """
        ...

    def roll_out(self, pool: Pool, group: str, image_id: str) -> tuple[str, ...]:
        """Have the group launch new nodes from it; returns a line per thing changed. Nodes that exist stay.

        PoolError if the group's template is not ours to change. Idempotent: nothing is said where nothing differs.
        Consistent: at once. Absent: NotFoundError. Retryable: ThrottledError, ConflictError.
        """
        ...

    def delete_image(self, pool: Pool, group: str, image_id: str) -> None:
        """Delete an image of ours and its disks' copies; ConflictError if it is in use.

        Idempotent, Absent: success. Consistent: at once, as far as the listing goes. Retryable: ThrottledError.
        """
        ...
