"""Opening the relational store: migrations, transactions and locks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Column, Connection, Engine, QueuePool, Table, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from retrieval.errors import StoreFailure
from retrieval.store.failures import failure, read_json
from retrieval.store.schema import HEAD, VERSION_TABLE, metadata, sources
from retrieval.store.sealing import opening
from retrieval.store.sqlite import open_sqlite_by

_ADVISORY_LOCK = 20_26


def open_store(url: str) -> Engine:
    """The engine of the store at ``url``, its tables created or migrated to this version.

    Errors of the database raise `StoreFailure` wherever the engine is used.

    Parameters
    ----------
    url
        SQLAlchemy URL; ``postgresql://`` and ``postgres://``, as other programs write them, use psycopg too.

    Raises
    ------
    StoreFailure
        The store cannot be opened, or a newer Precedent wrote it.
    """
    try:
        location = make_url(url)
        if location.drivername in ("postgres", "postgresql"):
            location = location.set(drivername="postgresql+psycopg")
        name = location.render_as_string(hide_password=True)
    except SQLAlchemyError as error:
        raise StoreFailure(f"the store {url} cannot be opened: {error}") from error
    try:
        if location.get_backend_name() == "sqlite" and location.database:
            # it holds people's records: only its owner may read it, where it does not exist yet
            Path(location.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # our threads are bounded in number, and a limit on connections would fail one that could wait
        # of a server that was restarted, connections of before are replaced when they are next used
        is_server = location.get_backend_name() != "sqlite"
        engine = create_engine(
            location, poolclass=QueuePool, max_overflow=-1, pool_pre_ping=is_server, json_deserializer=read_json
        )
        if engine.dialect.name == "sqlite":
            open_sqlite_by(engine)
        with opening(location) if not is_server else nullcontext(), engine.connect() as connection:
            try:
                revision, _ = _revision(connection)
            except ProgrammingError:
                # another process replaces the table of versions now
                revision = None
        if revision is not None:
            _refuse_unknown(revision, name)
        if revision != HEAD:
            with engine.begin() as connection:
                _begin_exclusive(connection)
                _upgrade(connection)
    except ModuleNotFoundError as error:
        hint = "pip install 'precedent-agent[postgres]'" if error.name == "psycopg" else None
        raise StoreFailure(f"the store {name} cannot be opened: {error}", hint) from error
    except (SQLAlchemyError, OSError, UnicodeDecodeError) as error:
        raise failure(f"the store {name} cannot be opened", error, location) from error
    event.listen(engine, "handle_error", lambda context: _store_failure(name, location, context))
    return engine


def _refuse_unknown(revision: str, name: str) -> None:
    """Raise `StoreFailure` where no migration leads from the revision to this version's."""
    if revision.isdecimal() and len(revision) == len(HEAD) and revision > HEAD:
        raise StoreFailure(
            f"the store {name} was written by a newer Precedent (schema {revision}, this one knows {HEAD})",
            "install that version or a newer one; or set PRECEDENT_HOME to another folder",
        )
    if revision not in {f"{number:0{len(HEAD)}}" for number in range(1, int(HEAD) + 1)}:
        raise StoreFailure(
            f"the store {name} has the schema {revision!r}, which no Precedent writes (this one: {HEAD}): it is "
            "damaged, or another program wrote it",
            "`precedent restore` brings a backup into an empty folder; or set PRECEDENT_HOME to another folder",
        )


def _store_failure(name: str, location: URL, context: ExceptionContext) -> StoreFailure | None:
    error = context.original_exception
    # the pool makes another connection where it finds one dead
    if not context.is_pre_ping and isinstance(error, context.dialect.loaded_dbapi.Error):
        return failure(f"the store {name} failed", error, location)
    return None


def _revision(connection: Connection) -> tuple[str | None, bool]:
    """The revision of the store, None of one without tables; whether its version table is older than Alembic's."""
    inspector = inspect(connection)
    if not inspector.has_table(VERSION_TABLE):
        return None, False
    if "version" in {column["name"] for column in inspector.get_columns(VERSION_TABLE)}:
        return f"{connection.scalar(text(f'SELECT version FROM {VERSION_TABLE}')):04}", True
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or "", False


def _upgrade(connection: Connection) -> None:
    """Create the tables or migrate them; a no-op where another process did so meanwhile."""
    revision, legacy = _revision(connection)
    if revision == HEAD:
        return
    # takes long to import, and is seldom needed
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    if revision is None:
        metadata.create_all(connection)
        command.stamp(config, HEAD)
        return
    if legacy:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        command.stamp(config, revision)
    command.upgrade(config, HEAD)


def _begin_exclusive(connection: Connection) -> None:
    """Begin a transaction that no other process enters at the same time."""
    on_sqlite = connection.dialect.name == "sqlite"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if on_sqlite else f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")


@contextmanager
def changing(engine: Engine, name: str) -> Iterator[Connection]:
    """A transaction that changes the cases or vectors of a source; others that do wait until it ends.

    PostgreSQL would otherwise find a deadlock between two that write the same rows in different orders, and what one
    reads before it writes would be outdated.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # not FOR UPDATE, which verdicts of the source would wait for
            row = select(sources.c.name).where(sources.c.name == name)
            connection.execute(row.with_for_update(key_share=True))
        yield connection


@contextmanager
def alone(engine: Engine, name: str) -> Iterator[bool]:
    """Whether no other process is within such a block of that ``name``, until this one ends; does not wait."""
    if engine.dialect.name == "sqlite":
        lock = FileLock(f"{engine.url.database}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock", timeout=0)
        with suppress(Timeout):
            lock.acquire()
        try:
            yield lock.is_locked
        finally:
            lock.release()
        return
    arguments = {"all": _ADVISORY_LOCK, "name": name}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:all, hashtext(:name))"), arguments):
            yield False
            return
        try:
            yield True
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:all, hashtext(:name))"), arguments)


def insert_statement(engine: Engine, table: Table) -> Any:
    """The dialect's INSERT, which knows ON CONFLICT."""
    # each takes long to import, and one is needed
    if engine.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)


def insert_or_ignore(engine: Engine, table: Table) -> Any:
    """The INSERT that leaves out rows that break a uniqueness."""
    return insert_statement(engine, table).on_conflict_do_nothing()


class RowInsert:
    """An INSERT of many rows without SQLAlchemy's processing of each value, which takes as long as the insert itself.

    Parameters
    ----------
    columns
        Columns of the rows; their values are given as the driver takes them (JSON as text).
    shared
        A column that has one value in all rows of a call.
    """

    def __init__(self, engine: Engine, statement: Any, columns: Sequence[str], shared: Column[Any]) -> None:
        self._columns = (*columns, shared.name)
        compiled = statement.compile(dialect=engine.dialect, column_keys=self._columns)
        self._sql, self._positional = compiled.string, compiled.positional
        self._bind = shared.type.dialect_impl(engine.dialect).bind_processor(engine.dialect)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]], value: Any) -> None:
        """Insert the rows, with ``value`` in the shared column."""
        bound = self._bind(value) if self._bind else value
        values: list[Any] = [(*row, bound) for row in rows]
        if not self._positional:
            values = [dict(zip(self._columns, row, strict=True)) for row in values]
        connection.exec_driver_sql(self._sql, values)
