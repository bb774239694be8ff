"""Alembic asks this file how to reach the schema. The connection is given by preprov.store.migrate."""

from typing import Any, Literal

from alembic import context
from sqlmodel import AutoString

from preprov.store.migrate import VERSION_TABLE
from preprov.store.rows import Row
from preprov.store.types import BigKey, EpochSeconds, UtcDateTime


def _mine(name: str | None, kind: str, _parents: object) -> bool:
    """Tables of other programs in the same database are none of our business."""
    return kind != "table" or name in Row.metadata.tables


def _rendered(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """How a generated migration writes our column types."""
    if kind != "type":
        return False
    if item is BigKey:
        return "BigKey"
    words = {UtcDateTime: "UtcDateTime()", EpochSeconds: "EpochSeconds()", AutoString: "sa.String()"}
    return words.get(type(item), False)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
    include_name=_mine,
    render_item=_rendered,
)
with context.begin_transaction():
    context.run_migrations()
