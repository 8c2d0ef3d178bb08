"""The relational store: tables and how it is opened. It is the truth; the vector index is made from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from retrieval.errors import StoreFailure

# what brings a store of the version before to this one; SQL that SQLite and PostgreSQL share
_MIGRATIONS = {
    2: (
        "ALTER TABLE cases ADD COLUMN times INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE cases ADD COLUMN kind TEXT",
        "ALTER TABLE sources RENAME COLUMN field_model TO models",
        # judges of another form: each source says that it must be fitted again
        "UPDATE sources SET judge = NULL, models = NULL",
        "CREATE INDEX verdicts_by_time ON verdicts (source, judged_at)",
    ),
    # models packed in another form
    3: ("UPDATE sources SET judge = NULL, models = NULL",),
}
SCHEMA_VERSION = max(_MIGRATIONS)
_LOCK = 20_26
metadata = MetaData()

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))


def _of_source(primary_key: bool = False) -> Column[str]:
    owner = ForeignKey("sources.name", ondelete="CASCADE")
    return Column("source", String(64), owner, primary_key=primary_key, nullable=False)


sources = Table(
    "sources",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("brief", Text, nullable=False, default=""),
    Column("brief_by", String(16), nullable=False, default="nobody"),
    Column("version", Integer, nullable=False, default=0),
    Column("embedder", String(64)),
    Column("space", JSON(none_as_null=True)),
    Column("reading", JSON(none_as_null=True)),
    Column("judge", JSON(none_as_null=True)),
    Column("models", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _of_source(),
    Column("hash", String(64), nullable=False),
    Column("key", String(64), nullable=False),
    Column("label", String(16), nullable=False),
    Column("kind", Text),
    Column("text", Text, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("events", JSON, nullable=False),
    Column("file", Text),
    Column("line", Integer),
    Column("time", Text),
    Column("times", Integer, nullable=False, default=1, server_default="1"),
    Column("given_by", Text, nullable=False),
    Column("given_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("source", "hash", "label"),
    Index("cases_by_key", "source", "key", "label"),
)
vectors = Table(
    "vectors",
    metadata,
    _of_source(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("label", String(16), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("indexed", Boolean, nullable=False, default=False),
)
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", String(32), primary_key=True),
    _of_source(),
    Column("label", String(16), nullable=False),
    Column("probability", Float, nullable=False),
    Column("body", JSON, nullable=False),
    Column("judged_at", DateTime(timezone=True), nullable=False),
    Column("corrected_to", String(16)),
    Index("verdicts_by_time", "source", "judged_at"),
)
heard = Table(
    "heard",
    metadata,
    Column("question", String(64), primary_key=True),
    Column("log_odds", Float, nullable=False),
)
remembered = Table(
    "remembered",
    metadata,
    _of_source(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("state", String(64), nullable=False),
    Column("body", JSON, nullable=False),
)


def open_store(url: str) -> Engine:
    """The engine of the store at ``url``, its tables made when they are not there.

    Raises:
        StoreFailure: it cannot be opened, or a newer Precedent wrote it.
    """
    try:
        location = make_url(url)
        if location.get_backend_name() == "sqlite" and location.database:
            Path(location.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(location)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_for_many_readers)
        if not metadata.tables.keys() <= set(inspect(engine).get_table_names()):
            _make_tables(engine)
        with engine.connect() as connection:
            found = connection.scalar(select(schema.c.version))
        if found is not None and found < SCHEMA_VERSION:
            _migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        raise StoreFailure(f"the store {url} cannot be opened: {error}") from error
    if found is not None and found > SCHEMA_VERSION:
        raise StoreFailure(
            f"the store {url} was written by a newer Precedent (schema {found}, this one knows {SCHEMA_VERSION})"
        )
    return engine


def _make_tables(engine: Engine) -> None:
    """Make what is not there; of processes that start at once, one at a time."""
    with engine.begin() as connection:
        _alone(connection)
        metadata.create_all(connection)
        if connection.scalar(select(schema.c.version)) is None:
            connection.execute(insert(schema).values(version=SCHEMA_VERSION))


def _migrate(engine: Engine) -> None:
    """Bring the tables of an older version up to this one; of processes that start at once, one does it."""
    with engine.begin() as connection:
        _alone(connection)
        found = connection.scalar(select(schema.c.version)) or 1
        for version in range(found + 1, SCHEMA_VERSION + 1):
            for statement in _MIGRATIONS[version]:
                connection.exec_driver_sql(statement)
        connection.execute(update(schema).values(version=SCHEMA_VERSION))


def _alone(connection: Connection) -> None:
    """Begin a transaction that no other process is beside."""
    sqlite_here = connection.dialect.name == "sqlite"
    connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite_here else f"SELECT pg_advisory_xact_lock({_LOCK})")


def insert_or_ignore(engine: Engine, table: Table) -> Any:
    """The statement that inserts those of the rows that it is executed with that break no uniqueness."""
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def insert_or_touch_plain(engine: Engine, table: Table, rows: Sequence[tuple[Any, ...]], **same: Any) -> None:
    """Insert rows, given by the table's first columns as the database takes them (JSON as text), and the ``same``
    values in all of them; a row whose primary key is there stays as it is but for the ``same``.

    For very many rows: nothing is worked out for each of them.
    """
    if not rows:
        return
    dialect = engine.dialect
    columns = [one.name for one in table.columns][: len(rows[0])] + list(same)
    statement = (postgresql if dialect.name == "postgresql" else sqlite).insert(table)
    keys, changed = [one.name for one in table.primary_key], {one: statement.excluded[one] for one in same}
    compiled = statement.on_conflict_do_update(index_elements=keys, set_=changed).compile(
        dialect=dialect, column_keys=columns
    )
    said = []
    for name, value in same.items():
        process = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        said.append(process(value) if process else value)
    every: Any = [(*row, *said) for row in rows]
    if not compiled.positional:
        every = [dict(zip(columns, row, strict=True)) for row in every]
    with engine.begin() as connection:
        connection.exec_driver_sql(str(compiled), every)


def _sqlite_for_many_readers(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
