"""Parts of a source: copied to another store, its cases since a moment, and a sample of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, func, insert, select, text

from retrieval.store.cases import delete_orphaned_vectors
from retrieval.store.schema import (
    api_key_changes,
    case_changes,
    cases,
    held_corrections,
    in_utc,
    metadata,
    sources,
    vectors,
)
from retrieval.store.sources import Sources
from retrieval.types import StoredCase, stored_case

_CHUNK = 2_000


def copy_source(store: Engine, other: Engine, name: str, until: datetime | None = None) -> None:
    """Copy a source, its cases that were given ``until`` then, and their vectors, to another store that lacks it."""
    copy_rows(store, other, sources, sources.c.name == name)
    given = [] if until is None else [cases.c.given_at <= until]
    copy_rows(store, other, cases, cases.c.source == name, *given)
    copy_rows(store, other, vectors, vectors.c.source == name)
    with other.begin() as connection:
        delete_orphaned_vectors(connection, name)


def copy_later_cases(store: Engine, other: Engine, name: str, since: datetime) -> None:
    """Copy the cases that were given after ``since``; the other store has those before."""
    copy_rows(store, other, cases, cases.c.source == name, cases.c.given_at > since)
    with other.begin() as connection:
        Sources.cases_changed(connection, name)


def newest_given_at(store: Engine, name: str) -> datetime | None:
    """When the newest case of a source was given; None if it has no case."""
    with store.connect() as connection:
        newest: datetime | None = connection.scalar(select(func.max(cases.c.given_at)).where(cases.c.source == name))
    return None if newest is None else in_utc(newest)


def given_since(store: Engine, name: str, since: datetime) -> list[tuple[StoredCase, datetime]]:
    """The cases of a source that were given after ``since``, and when, oldest first."""
    query = select(cases).where(cases.c.source == name, cases.c.given_at > since)
    with store.connect() as connection:
        rows = connection.execute(query.order_by(cases.c.given_at, cases.c.id)).all()
    return [(stored_case(row), in_utc(row.given_at)) for row in rows]


def sample_of_cases(store: Engine, name: str, most: int) -> list[StoredCase]:
    """About ``most`` cases of a source, by regular intervals of their numbers; all if there are no more."""
    of_source = cases.c.source == name
    with store.connect() as connection:
        count = connection.scalar(select(func.count()).select_from(cases).where(of_source)) or 0
        step = max(1, count // most)
        rows = connection.execute(select(cases).where(of_source, cases.c.id % step == 0).order_by(cases.c.id))
        return [stored_case(row) for row in rows]


def occurrences_by_key(store: Engine, name: str) -> dict[str, int]:
    """How often records with each key were learned."""
    counted = select(cases.c.key, func.sum(cases.c.occurrences)).where(cases.c.source == name)
    with store.connect() as connection:
        return {key: int(count) for key, count in connection.execute(counted.group_by(cases.c.key))}


def relabelled_since(store: Engine, name: str, since: datetime) -> set[str]:
    """The content hashes that were cases with another label before ``since``."""
    of_source = select(case_changes.c.hash).where(case_changes.c.source == name, case_changes.c.changed_at > since)
    with store.connect() as connection:
        return set(connection.scalars(of_source.where(case_changes.c.label_before.is_not(None)).distinct()))


def copy_rows(store: Engine, other: Engine, table: Table, *where: ColumnElement[bool]) -> None:
    """Copy the rows of a table that meet all conditions to another store."""
    with store.connect() as connection, other.begin() as target:
        _copy(connection, target, table, *where)
        _pass_ids(target, table)


def copy_store(store: Engine, other: Engine) -> None:
    """Make ``other`` hold what ``store`` holds at this moment, in one transaction; what it held before is deleted."""
    with store.connect() as connection, other.begin() as target:
        if store.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        else:
            # the driver begins no transaction to read
            connection.exec_driver_sql("BEGIN")
        for table in reversed(metadata.sorted_tables):
            target.execute(delete(table))
        for table in metadata.sorted_tables:
            _copy(connection, target, table)
            _pass_ids(target, table)


def _copy(connection: Connection, target: Connection, table: Table, *where: ColumnElement[bool]) -> None:
    query = select(table).where(*where).execution_options(yield_per=_CHUNK)
    for part in connection.execute(query).mappings().partitions(_CHUNK):
        rows = [
            {name: in_utc(value) if isinstance(value, datetime) else value for name, value in row.items()}
            for row in part
        ]
        target.execute(insert(table), rows)


def _pass_ids(target: Connection, table: Table) -> None:
    """Give new ids after those that are used; that of a case that was removed is, where its changes are left."""
    if table in (api_key_changes, held_corrections) and target.dialect.name == "postgresql":
        _set_sequence(target, table.name, f"SELECT MAX(id) AS id FROM {table.name}")
    if table not in (cases, case_changes):
        return
    used = "SELECT MAX(id) AS id FROM cases UNION SELECT MAX(case_id) FROM case_changes"
    if target.dialect.name == "sqlite":
        target.execute(text(f"UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM ({used})) WHERE name = 'cases'"))
        return
    for name, ids in (("cases", used), ("case_changes", "SELECT MAX(id) AS id FROM case_changes")):
        _set_sequence(target, name, ids)


def _set_sequence(target: Connection, name: str, ids: str) -> None:
    # PostgreSQL does not see the ids that are given to it
    target.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), MAX(id)) FROM ({ids}) AS ids"))
