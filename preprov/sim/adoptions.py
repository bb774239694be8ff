"""How groups were found, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from preprov.model.adoption import Adoption


class MemoryAdoptions:
    """AdoptionStore in memory."""

    def __init__(self) -> None:
        self._name = uuid4().hex[:12]
        self._rows: list[Adoption] = []

    def installation(self) -> str:
        """Name of this store."""
        return self._name

    def adopt(self, adoption: Adoption) -> Adoption:
        """Keep it, unless one is in force."""
        held = self.in_force(adoption.pool).get(adoption.group)
        if held is not None:
            return held
        self._rows.append(adoption)
        return adoption

    def in_force(self, pool: str) -> Mapping[str, Adoption]:
        """Group -> how it was found."""
        return {a.group: a for a in self._rows if a.pool == pool and a.released_at is None}

    def amend(self, pool: str, group: str, settings: Mapping[str, object]) -> None:
        """These settings of the baseline are what is to be put back."""
        held = self.in_force(pool).get(group)
        if held is not None:
            self._change(pool, group, baseline={**held.baseline, **settings})

    def ignore(self, pool: str, group: str, writers: Sequence[str]) -> None:
        """These other writers are no concern."""
        self._change(pool, group, ignored=tuple(writers))

    def release(self, pool: str, group: str, at: datetime) -> None:
        """It is given back."""
        self._change(pool, group, released_at=at)

    def _change(self, pool: str, group: str, **fields: object) -> None:
        held = self.in_force(pool).get(group)
        if held is not None:
            self._rows[self._rows.index(held)] = replace(held, **fields)  # type: ignore[arg-type]
