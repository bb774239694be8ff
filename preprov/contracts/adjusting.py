"""Changing what a running task may use."""

from typing import Protocol, runtime_checkable

from preprov.model.adjusting import Adjustable
from preprov.model.pools import Node
from preprov.model.resources import Resources


@runtime_checkable
class ResourceAdjuster(Protocol):
    """What a scheduler also is, if it can change the tasks that it has started.

    What it cannot change it declares, and refuses with a `RefusedError` that says why; a task that has ended, or never
    began, is a `NotFoundError`; whatever may be tried again is a ConflictError.
    """

    def adjustable(self, node: Node) -> Adjustable:
        """What can be changed of tasks on that node. Asks nobody."""
        ...

    def resize(self, claimant: str, node: Node, amount: Resources, lease_s: float) -> Resources:
        """Let a task use so much from now on; of what is not adjustable the amount is not looked at.

        Idempotent. Returns the most that may be in force until it is seen again: no less memory than the task cannot
        give up, and what it had where less is made later. Reports say what is in force, and what is underway. Where
        the adjuster enforces limits itself they end after `lease_s` seconds unless they are set again, so that a
        controller that is gone leaves nobody short.
        """
        ...

    def lift(self, claimant: str, node: Node) -> None:
        """Give the task back what it would have without us. Absent = success."""
        ...

    def checkpoint(self, claimant: str, node: Node, signal: str, grace_s: float) -> None:
        """Tell a task to keep what it has done; it is ended after the grace. Repeating it does nothing."""
        ...

    def extend(self, claimant: str, node: Node, seconds: float) -> None:
        """Let a task run for so long in all."""
        ...
