"""One database, SQLite or PostgreSQL: how it is reached, read, written, locked, and how it fails."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Engine, bindparam, create_engine, event, func, make_url, select
from sqlalchemy.engine import URL, Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DisconnectionError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from preprov.model.errors import StoreError, StoreUnavailableError
from preprov.store.prepared import say

BUSY_TIMEOUT_MS: Final = 30_000
CONNECT_TIMEOUT_S: Final = 10
_RESTED_S: Final = 1.0
_RETURNED: Final = "preprov_returned"
_TAKE: Final = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger)))


class Database:
    """A pool of connections, with `read` and `write` as the only two ways in."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._secrets = [str(s) for s in (url.password, *(url.query.get(k) for k in _SECRET_OPTIONS)) if s]
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _engine(url)
        if self.is_sqlite:
            self._writer = self.engine.execution_options(preprov_write=True)
            self._reader = self.engine
        else:
            self._writer = self.engine.execution_options(isolation_level="READ COMMITTED")
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def where(self) -> str:
        """The address without its password, for people."""
        hidden = {k: "***" for k in self.url.query if k in _SECRET_OPTIONS}
        return self.url.update_query_dict(hidden).render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database throughout."""
        with self.errors(), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self, *locks: str) -> Iterator[Session]:
        """A transaction that is kept as a whole or not at all.

        On SQLite it is the only writer from its first moment, so every lock is held. On PostgreSQL it holds the named
        ones until it ends; they are taken in one order, so that two writers never wait for each other.
        """
        with self.errors(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            if not self.is_sqlite:
                for name in sorted(set(locks)):
                    session.execute(_TAKE, {"key": _lock_key(name)})
            yield session

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As `read`, without the objects: for statements that have to be quick."""
        with self.errors(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *locks: str) -> Iterator[Connection]:
        """As `write`, without the objects: for statements that have to be quick."""
        if self.is_sqlite:
            with self.errors(), self._writer.begin() as connection:
                yield connection
            return
        # The transaction is begun by hand, for its locks then come with it: one way to the server and back, not two.
        keys = [_lock_key(name) for name in sorted(set(locks))]
        with self.errors(), self.engine.begin() as connection:
            say(connection, "; ".join(["BEGIN", *(f"SELECT pg_advisory_xact_lock({int(key)})" for key in keys)]))
            yield connection

    @contextmanager
    def writing_one(self) -> Iterator[Connection]:
        """For a single statement, which is a transaction of its own; on SQLite as `writing`."""
        if self.is_sqlite:
            with self.writing() as connection:
                yield connection
            return
        with self.errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A bare write transaction, for migrations."""
        with self.errors(), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(_TAKE, {"key": _lock_key("schema")})
            yield connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def _translated(self, error: SQLAlchemyError) -> StoreError:
        original = error.orig if isinstance(error, StatementError) else None
        if isinstance(original, StoreError):
            return original
        told = " ".join(str(original or error).split())
        for secret in self._secrets:
            told = told.replace(secret, "***")
        if "database is locked" in told or str(getattr(original, "sqlstate", "")).startswith("40"):
            return StoreUnavailableError(
                f"another process was writing: {told}", where=self.where, hint="nothing was changed; try again"
            )
        if isinstance(error, OperationalError | InterfaceError) and self._unreachable(original, told):
            return StoreUnavailableError(f"the database does not answer: {told}", where=self.where, hint=_REACH_HINT)
        return StoreError(f"the database refused: {told}", where=self.where)

    def _unreachable(self, original: BaseException | None, told: str) -> bool:
        if self.is_sqlite:
            return "unable to open" in told
        state = getattr(original, "sqlstate", None)  # none: the server never answered
        return state is None or state[:2] in ("08", "28", "3D", "53", "57")

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


_SECRET_OPTIONS: Final = ("password", "sslpassword", "passfile")
_REACH_HINT: Final = "is the server up, and are host, port, user and password in PREPROV_STORE__URL right?"


def resolve(url: str, home: Path) -> URL:
    """The full address: "" is a file in `home`, and PostgreSQL is spoken to through psycopg 3.

    Raises:
        StoreError: it is not a database address, or of a database that is not supported.
    """
    if not url:
        return URL.create("sqlite", database=str(home / "preprov.db"))
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = ""
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(
            "the store's address is not one of SQLite or PostgreSQL",
            where="PREPROV_STORE__URL",
            hint="sqlite:////path/preprov.db or postgresql://user:password@host/database",
        )
    if parsed.database in (None, "", ":memory:"):
        raise StoreError(
            "a database in memory is lost with its process, and no second one could see it",
            where="PREPROV_STORE__URL",
            hint="sqlite:////path/preprov.db",
        )
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        folder = Path(str(url.database)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot make the store's folder: {error.strerror}", where=str(folder)
            ) from error
        engine = create_engine(
            url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
        )
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    try:
        # Left to itself the driver sends a BEGIN ahead of whatever comes first; who wants one says so.
        engine = create_engine(
            url,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    except ImportError as error:
        raise StoreError("PostgreSQL needs psycopg", hint="pip install 'preprov[postgres]'") from error
    _ask_where_rested(engine)
    return engine


def _ask_where_rested(engine: Engine) -> None:
    """Look whether a connection's server is still there, unless it was used a moment ago: that costs a statement."""

    def returned(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED] = time.monotonic()

    def taken(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        at = record.info.get(_RETURNED)
        if at is None or time.monotonic() - at < _RESTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool opens another one

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would be a deferred one
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
    # What is committed outlives any process. A power cut may take the last moments, as it takes the local nodes.
    connection.execute("PRAGMA synchronous=NORMAL")


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("preprov_write")
    # A transaction that begins by reading and writes later can be refused in the middle; this one cannot.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
