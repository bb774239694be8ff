"""The schema can go up, down and up again, and is what the rows say."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from preprov.store import migrate
from preprov.store.database import Store
from preprov.store.engine import Database, resolve
from preprov.store.rows import Row


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(resolve("", tmp_path))


def tables(db: Database) -> set[str]:
    with db.engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def differences(db: Database) -> list[object]:
    with db.engine.connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Row.metadata)
    return list(found)


def test_up_down_up(db: Database) -> None:
    migrate.move(db)
    assert tables(db) == {*Row.metadata.tables, migrate.VERSION_TABLE}
    migrate.move(db, "base", down=True)
    assert tables(db) == {migrate.VERSION_TABLE}
    migrate.move(db)
    assert tables(db) == {*Row.metadata.tables, migrate.VERSION_TABLE}
    assert differences(db) == []


def test_the_migrations_make_what_the_rows_say(db: Database) -> None:
    migrate.move(db)
    assert differences(db) == []


def test_the_head_the_program_names_is_the_newest_migration(db: Database) -> None:
    with db.connection() as connection:
        script = ScriptDirectory.from_config(migrate.config(connection))
    assert script.get_heads() == [migrate.HEAD]


def test_a_failing_migration_leaves_the_schema_as_it_was(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        migrate.move(db)
    assert tables(db) == set()
    monkeypatch.undo()
    migrate.move(db)
    assert differences(db) == []


def test_a_store_of_a_test_is_what_the_migrations_make(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    db = Database(resolve("", tmp_path_factory.mktemp("migrated")))
    migrate.move(db)

    def content(database: Database) -> list[str]:
        with closing(sqlite3.connect(str(database.url.database))) as raw:
            return sorted(raw.iterdump())  # SQLAlchemy makes the indexes of a table in any order

    assert content(store._db) == content(db)
