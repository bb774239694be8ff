"""Statements put together once and handed to the driver as they are.

What SQLAlchemy does anew for each execution (cache key, context, result object) takes several times what the driver
takes for a statement of one row. Where a statement is executed thousands of times a second that is most of it.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Insert, Select, Update
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError

Convert = Callable[[Any], Any]
Statement = Select[Any] | Insert | Update
_CURSORS: Final = "preprov_cursors"


@dataclass(frozen=True)
class _Told:
    """A statement in the words of one driver.

    Attributes:
        text: SQL. binds: (name, how its value is given to the driver), in the text's order. constants: name -> value of
            what is no parameter. by_position: parameters are a list.
    """

    text: str
    binds: tuple[tuple[str, Convert | None], ...]
    constants: Mapping[str, Any]
    by_position: bool

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """As the driver takes them."""
        values = {**self.constants, **given}
        if self.by_position:
            return [values[n] if how is None else how(values[n]) for n, how in self.binds]
        return {n: values[n] if how is None else how(values[n]) for n, how in self.binds}


@dataclass(frozen=True)
class _Rows:
    """How one driver's rows are read: into what, and (place, how its value becomes ours) of those that differ."""

    row: Callable[[Any], Any]
    columns: tuple[tuple[int, Convert], ...]

    def read(self, fields: Any) -> Any:
        """A row with names."""
        fields = list(fields)
        for k, how in self.columns:
            fields[k] = how(fields[k])
        return self.row(fields)


class Prepared:
    """A statement of SQLAlchemy Core that is executed often.

    Args:
        statement: without `IN` of several values: their number is only known when it is executed.
        columns: of an INSERT, those that are given.
    """

    def __init__(self, statement: Statement, columns: tuple[str, ...] | None = None) -> None:
        self._statement: Final = statement
        self._columns: Final = columns
        self._gives_rows: Final = isinstance(statement, Select)
        self._told: dict[str, _Told] = {}
        self._rows: dict[str, _Rows] = {}

    def __call__(self, connection: Connection, **given: Any) -> list[Any]:
        """Execute it in the transaction that the connection is in.

        Args:
            connection: one that has begun. given: a value for each parameter.

        Returns:
            A query's rows, with names; nothing of what a change would return.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused, or is gone; as from `Connection.execute`.
        """
        cursor = self._executed(connection, given)
        if not self._gives_rows:
            return []
        dialect = connection.dialect
        rows = self._rows.get(dialect.name)
        if rows is None:
            rows = self._rows[dialect.name] = _rows(self._statement, cursor.description, dialect)
        return [rows.read(fields) for fields in cursor.fetchall()]

    def count(self, connection: Connection, **given: Any) -> int:
        """As a call, of a change: how many rows it met."""
        return int(self._executed(connection, given).rowcount)

    def _executed(self, connection: Connection, given: Mapping[str, Any]) -> Any:
        dialect = connection.dialect
        told = self._told.get(dialect.name)
        if told is None:
            told = self._told[dialect.name] = _told(self._statement, self._columns, dialect)
        cursor = _cursor(connection, self)
        try:
            cursor.execute(told.text, told.parameters(given))
        except dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, cursor, told.text, error) from error
        return cursor


def say(connection: Connection, text: str) -> None:
    """Send statements without parameters to PostgreSQL, all at once; what they answer is of no interest.

    Raises:
        sqlalchemy.exc.DBAPIError: as a call of `Prepared`.
    """
    cursor = _cursor(connection, say)
    try:
        cursor.execute(text, prepare=False)  # several statements cannot be prepared as one
    except connection.dialect.loaded_dbapi.Error as error:
        raise _wrapped(connection, cursor, text, error) from error


def _cursor(connection: Connection, of: object) -> Any:
    """A statement's own on each of the driver's connections: psycopg's keep how its values are read and written."""
    cursors = connection.info.get(_CURSORS)
    if cursors is None:
        cursors = connection.info[_CURSORS] = {}
    cursor = cursors.get(of)
    if cursor is None:
        cursor = cursors[of] = connection.connection.cursor()
    return cursor


def _told(statement: Statement, columns: tuple[str, ...] | None, dialect: Dialect) -> _Told:
    compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
    names = compiled.positiontup if compiled.positional else list(compiled.binds)
    binds = tuple((n, compiled.binds[n].type.dialect_impl(dialect).bind_processor(dialect)) for n in names)
    constants = {n: b.value for n, b in compiled.binds.items() if not b.required}
    return _Told(str(compiled), binds, constants, compiled.positional)


def _rows(statement: Statement, description: Any, dialect: Dialect) -> _Rows:
    columns = statement.exported_columns
    reads = [
        c.type.dialect_impl(dialect).result_processor(dialect, told[1])
        for c, told in zip(columns, description, strict=True)
    ]
    row: Any = namedtuple("row", [c.name for c in columns])  # type: ignore[misc]
    return _Rows(row._make, tuple((k, r) for k, r in enumerate(reads) if r is not None))


def _wrapped(connection: Connection, cursor: Any, text: str, error: Exception) -> BaseException:
    """As SQLAlchemy tells of it; a connection whose server is gone is not used again."""
    dialect = connection.dialect
    gone = dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor)  # type: ignore[arg-type]
    if gone:
        connection.invalidate(error)
    base = dialect.loaded_dbapi.Error
    return DBAPIError.instance(
        text, None, error, base, hide_parameters=True, connection_invalidated=gone, dialect=dialect
    )
