"""The port for how groups were found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from sqlmodel import Session, col, select

from preprov.model.adoption import Adoption
from preprov.store.codec import dump, load
from preprov.store.engine import Database
from preprov.store.rows import AdoptionRow, InstallationRow

_ONLY = 1


class SqlAdoptionStore:
    """Implements `contracts.AdoptionStore`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def installation(self) -> str:
        """Name of this store."""
        with self._db.read() as session:
            row = session.get(InstallationRow, _ONLY)
            if row is not None:
                return row.name
        with self._db.write("installation") as session:
            row = session.get(InstallationRow, _ONLY)
            if row is None:
                row = InstallationRow(id=_ONLY, name=uuid4().hex[:12])
                session.add(row)
            return row.name

    def adopt(self, adoption: Adoption) -> Adoption:
        """Keep it, unless one is in force."""
        with self._db.write(f"adoption:{adoption.pool}") as session:
            row = _row(session, adoption.pool, adoption.group)
            if row is not None:
                return load(Adoption, row.document)
            session.add(
                AdoptionRow(
                    pool=adoption.pool,
                    group=adoption.group,
                    at=adoption.at,
                    released_at=adoption.released_at,
                    document=dump(adoption),
                )
            )
        return adoption

    def in_force(self, pool: str) -> Mapping[str, Adoption]:
        """Group -> how it was found."""
        wanted = select(AdoptionRow.document).where(
            col(AdoptionRow.pool) == pool, col(AdoptionRow.released_at).is_(None)
        )
        with self._db.read() as session:
            found = [load(Adoption, d) for d in session.exec(wanted.order_by(col(AdoptionRow.id))).all()]
        return {a.group: a for a in found}

    def amend(self, pool: str, group: str, settings: Mapping[str, object]) -> None:
        """These settings of the baseline are what is to be put back."""
        self._change(pool, group, lambda a: replace(a, baseline={**a.baseline, **settings}))

    def ignore(self, pool: str, group: str, writers: Sequence[str]) -> None:
        """These other writers are no concern."""
        self._change(pool, group, lambda a: replace(a, ignored=tuple(writers)))

    def _change(self, pool: str, group: str, change: Callable[[Adoption], Adoption]) -> None:
        with self._db.write(f"adoption:{pool}") as session:
            row = _row(session, pool, group)
            if row is not None:
                row.document = dump(change(load(Adoption, row.document)))
                session.add(row)

    def release(self, pool: str, group: str, at: datetime) -> None:
        """It is given back."""
        with self._db.write(f"adoption:{pool}") as session:
            row = _row(session, pool, group)
            if row is not None:
                row.released_at = at
                row.document = dump(replace(load(Adoption, row.document), released_at=at))
                session.add(row)


def _row(session: Session, pool: str, group: str) -> AdoptionRow | None:
    """The one in force."""
    return session.exec(
        select(AdoptionRow).where(
            col(AdoptionRow.pool) == pool, col(AdoptionRow.group) == group, col(AdoptionRow.released_at).is_(None)
        )
    ).first()
