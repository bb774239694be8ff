"""Resize requests: the group makes all machines of a launch when it can have them together, or none of them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from preprov.contracts import Clock
from preprov.model.errors import ConflictError, InsufficientCapacityError, PoolError
from preprov.pools.gcp.errors import typed
from preprov.pools.gcp.options import GcpGroup

_KIND: Final = "InstanceGroupManagerResizeRequests"
_GRANTED: Final = frozenset({"CREATING", "SUCCEEDED"})
_LOOK_S: Final = 2.0


class Asked(Protocol):
    """The group that is asked."""

    options: GcpGroup

    @property
    def where(self) -> str:
        """For messages."""
        ...

    def order(self, kind: str, method: str, **fields: Any) -> None:
        """One call that writes to the group, over when its operation is."""
        ...

    def ask(self, kind: str, method: str, **fields: Any) -> Any:
        """One call that reads."""
        ...


def all_or_none(group: Asked, clock: Clock, name: str, instances: Sequence[Any], request_id: str) -> None:
    """Ask for these instances under a name of the request, and return when they are granted.

    A request that is not granted while a launch is watched is cancelled, so that no machine comes when nobody waits for
    it any more. Asked again under the same name nothing is asked twice.

    Raises:
        PoolError: they cannot be had; for a lack of machines InsufficientCapacityError.
    """
    resource = {"name": name, "instances": list(instances)}
    with suppress(ConflictError):  # it was asked for before: whatever became of it holds
        group.order(
            _KIND, "insert_unary", instance_group_manager_resize_request_resource=resource, request_id=request_id
        )
    started = clock.now()
    while True:
        found = group.ask(_KIND, "get", instance_group_manager=group.options.mig, resize_request=name)
        if found.state in _GRANTED:
            return
        waited_s = (clock.now() - started).total_seconds()
        if found.state != "ACCEPTED":
            raise _why(found, group.where)
        if waited_s > group.options.settle_s and _cancelled(group, name):
            raise _why(found, group.where)
        clock.sleep(_LOOK_S)


def _cancelled(group: Asked, name: str) -> bool:
    """True if it is cancelled; False if it was granted meanwhile."""
    try:
        group.order(_KIND, "cancel_unary", resize_request=name)
    except ConflictError:
        return False
    return True


def _why(found: Any, where: str) -> PoolError:
    errors = [*found.status.error.errors, *found.status.last_attempt.error.errors]
    if errors:
        return typed(errors[0].code, errors[0].message, where)
    return InsufficientCapacityError(
        f"resize request {found.name} was not granted in time", where=where, hint="another type, zone or time may do"
    )
