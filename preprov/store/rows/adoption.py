"""How groups were found, and who found them."""

from datetime import datetime

from sqlmodel import Field

from preprov.store.rows.base import Row, growing_key, instant, partial_index


class InstallationRow(Row, table=True):
    """One row, made when somebody first asks: the name of this store."""

    __tablename__ = "installation"

    id: int = Field(primary_key=True)
    name: str


class AdoptionRow(Row, table=True):
    """A group as it was found; at most one of a group is in force."""

    __tablename__ = "adoption"
    __table_args__ = (partial_index("uq_adoption_in_force", "pool", "group", where="released_at IS NULL", unique=True),)

    id: int | None = growing_key()
    pool: str
    group: str
    at: datetime = instant()
    released_at: datetime | None = instant(default=None)
    document: str
