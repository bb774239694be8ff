"""What is remembered of the groups that are managed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from preprov.model.adoption import Adoption


class AdoptionStore(Protocol):
    """How groups were found, so that they can be given back; and who we are, so that two of us are told apart."""

    def installation(self) -> str:
        """Name of this store: the same for all who share it, for ever, and no other store's."""
        ...

    def adopt(self, adoption: Adoption) -> Adoption:
        """Keep it. One that is in force is returned instead: how a group was found is never overwritten."""
        ...

    def in_force(self, pool: str) -> Mapping[str, Adoption]:
        """Group -> how it was found, of groups not released since."""
        ...

    def amend(self, pool: str, group: str, settings: Mapping[str, object]) -> None:
        """These settings of the baseline are what is to be put back: their owner changed them since.

        The others stay; without an adoption in force nothing happens.
        """
        ...

    def ignore(self, pool: str, group: str, writers: Sequence[str]) -> None:
        """These other writers are no concern. Replaces the list; without an adoption in force nothing happens."""
        ...

    def release(self, pool: str, group: str, at: datetime) -> None:
        """It is given back. Idempotent."""
        ...
