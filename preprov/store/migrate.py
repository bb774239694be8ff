"""Migrations, run from the program: they travel in the wheel, and nobody needs an alembic.ini."""

from typing import Any, Final

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from preprov.store.engine import Database

HEAD: Final = "0015"
"""The revision this program reads and writes: the newest in migrations/versions."""
VERSION_TABLE: Final = "preprov_revision"
"""Not alembic's own name for it: a database may be shared with Prefect or Airflow, which use that one."""


def current(connection: Connection) -> str | None:
    """The revision the database is at; None if it is empty. Cheap: Alembic is not loaded."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return revision


def move(db: Database, revision: str = "head", *, down: bool = False) -> None:
    """Bring the schema to a revision, in one transaction."""
    from alembic import command

    with db.connection() as connection:
        act: Any = command.downgrade if down else command.upgrade
        act(config(connection), revision)


def config(connection: Connection) -> Any:
    """Alembic's configuration for this connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", "preprov.store:migrations")
    made.attributes["connection"] = connection
    return made
