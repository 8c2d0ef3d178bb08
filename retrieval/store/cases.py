"""Cases and their vectors in the relational store: queries, and writing in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from retrieval.encoding.representation import Representation
from retrieval.errors import StoreFailure
from retrieval.store.engine import insert_or_ignore
from retrieval.store.failures import RESTORE_HINT
from retrieval.store.schema import cases, vectors
from retrieval.types import KEY_MARK, LABELS, NewCase, StoredCase, Vector, case_id, stored_case

_CHUNK = 2_000
# a case and its vector
SAME_KEY = and_(vectors.c.source == cases.c.source, vectors.c.key == cases.c.key, vectors.c.label == cases.c.label)
# of a case: content hash and label, or key and label
ContentLabel = tuple[str, str]
KeyLabel = tuple[str, str]


class CaseQueries:
    """Queries on the cases of a source."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def cases(self, name: str, keys: Collection[str] | None = None) -> list[StoredCase]:
        """Every case of a source, or those with one of the ``keys``, oldest first."""
        query = select(cases).where(cases.c.source == name).order_by(cases.c.id)
        parts = [query]
        if keys is not None:
            ordered = sorted(keys)
            parts = [query.where(cases.c.key.in_(ordered[i : i + _CHUNK])) for i in range(0, len(ordered), _CHUNK)]
        with self._engine.connect() as connection:
            rows = [row for part in parts for row in connection.execute(part)]
        return [stored_case(row) for row in sorted(rows, key=lambda row: row.id)]

    def hashes_of_cases(self, name: str, hashes: Collection[str]) -> set[str]:
        """Those of the content ``hashes`` that belong to a case."""
        if not hashes:
            return set()
        query = select(cases.c.hash).where(cases.c.source == name, cases.c.hash.in_(hashes)).distinct()
        with self._engine.connect() as connection:
            return set(connection.scalars(query))

    def texts(self, name: str) -> list[str]:
        """The texts of the cases that have neither fields nor events, each once."""
        # compared as text: parsing the JSON of a million cases takes seconds
        no_fields, no_events = cast(cases.c.fields, Text) == "{}", cast(cases.c.events, Text) == "[]"
        query = select(cases.c.text).where(cases.c.source == name, no_fields, no_events)
        with self._engine.connect() as connection:
            return list(dict.fromkeys(connection.scalars(query.execution_options(yield_per=_CHUNK))))

    def templates(self, name: str) -> dict[str, int]:
        """The number of cases of each key."""
        counted = select(cases.c.key, func.count()).where(cases.c.source == name).group_by(cases.c.key)
        with self._engine.connect() as connection:
            return dict(connection.execute(counted).all())

    def texts_by_key(self, name: str, label: str) -> list[tuple[str, str]]:
        """The keys of the texts that have the label, and one of the texts of each."""
        grouped = select(cases.c.key, func.min(cases.c.text)).where(cases.c.source == name, cases.c.label == label)
        with self._engine.connect() as connection:
            return [(key, text) for key, text in connection.execute(grouped.group_by(cases.c.key))]

    def mixed_keys(self, name: str) -> set[str]:
        """The keys that have cases of both labels."""
        grouped = select(cases.c.key).where(cases.c.source == name).group_by(cases.c.key)
        with self._engine.connect() as connection:
            return set(connection.scalars(grouped.having(func.count(cases.c.label.distinct()) > 1)))

    def keys_by_label(self, name: str) -> dict[str, int]:
        """The number of keys of each label, without those that have cases of both."""
        grouped = select(func.min(cases.c.label).label("label")).where(cases.c.source == name).group_by(cases.c.key)
        unmixed = grouped.having(func.count(cases.c.label.distinct()) == 1).subquery()
        counted = select(unmixed.c.label, func.count()).group_by(unmixed.c.label)
        with self._engine.connect() as connection:
            return {**dict.fromkeys(LABELS, 0), **dict(connection.execute(counted).all())}

    def case_ids(self, name: str, label: str, keys: Sequence[str]) -> dict[str, str]:
        """The id of the oldest case with each of the ``keys`` and the label."""
        oldest = select(cases.c.key, func.min(cases.c.id)).where(cases.c.source == name, cases.c.label == label)
        ids = dict[str, str]()
        with self._engine.connect() as connection:
            for start in range(0, len(keys), _CHUNK):
                of_keys = oldest.where(cases.c.key.in_(keys[start : start + _CHUNK])).group_by(cases.c.key)
                ids |= {key: case_id(number) for key, number in connection.execute(of_keys)}
        return ids

    def by_template(self, name: str) -> dict[KeyLabel, tuple[StoredCase, int]]:
        """The newest case of each key and label, and how many there are; in the order of the first ones."""
        newest, oldest, count = func.max(cases.c.id), func.min(cases.c.id), func.count()
        grouped = select(newest.label("newest"), oldest.label("oldest"), count.label("n"))
        group = grouped.where(cases.c.source == name).group_by(cases.c.key, cases.c.label).subquery()
        query = select(cases, group.c.n).join(group, cases.c.id == group.c.newest).order_by(group.c.oldest)
        with self._engine.connect().execution_options(yield_per=_CHUNK) as connection:
            return {(row.key, row.label): (stored_case(row), row.n) for row in connection.execute(query)}


def rows_of_origin(connection: Connection, name: str, given_by: str) -> Sequence[Any]:
    """The ids, hashes and labels of a source's cases that came from where those by ``given_by`` come from.

    The API key does not matter: whoever sends a file again corrects it.
    """
    origin, by = given_by.partition(KEY_MARK)[0], cases.c.given_by
    same = or_(by == origin, by.startswith(f"{origin}{KEY_MARK}", autoescape=True))
    query = select(cases.c.id, cases.c.hash, cases.c.label).where(cases.c.source == name, same)
    return connection.execute(query).all()


def case_row(
    name: str, case: NewCase, representation: Representation, given_by: str, occurrences: int = 1
) -> dict[str, Any]:
    """A case as a row of the table."""
    return {
        "source": name,
        "hash": case.content_hash,
        "key": representation.key(case.record, case.content_hash),
        "label": case.label,
        "label_value": case.label_value,
        "text": case.record.text,
        "fields": dict(case.record.fields),
        "events": list(case.record.events),
        "series": case.series,
        "file": case.file,
        "line": case.line,
        "time": case.time,
        "occurrences": occurrences,
        "given_by": given_by,
        "given_at": datetime.now(UTC),
    }


def insert_cases(
    connection: Connection,
    name: str,
    batch: Sequence[NewCase],
    representation: Representation,
    given_by: str,
    seen: Mapping[ContentLabel, int],
) -> tuple[int, bool]:
    """Write the cases that are new.

    Parameters
    ----------
    seen
        How often each content came with each label so far.

    Returns
    -------
    How many cases were new, and whether others count for more than before.
    """
    unique: dict[ContentLabel, NewCase] = {}
    for case in batch:
        unique.setdefault((case.content_hash, case.label), case)
    rows = [case_row(name, case, representation, given_by, seen[content]) for content, case in unique.items()]
    statement = insert_or_ignore(connection.engine, cases)
    added = connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount
    return added, _raise_times(connection, name, {content: seen[content] for content in unique if seen[content] > 1})


def _raise_times(connection: Connection, name: str, occurrences: Mapping[ContentLabel, int]) -> bool:
    """Raise the ``occurrences`` of these contents and labels where they came more often; whether any did."""
    repeated = {content for content, _ in occurrences}
    if not repeated:
        return False
    query = select(cases.c.id, cases.c.hash, cases.c.label, cases.c.occurrences)
    stored = connection.execute(query.where(cases.c.source == name, cases.c.hash.in_(repeated))).all()
    raised = [
        {"case": row.id, "occurrences_now": occurrences[row.hash, row.label]}
        for row in stored
        if occurrences.get((row.hash, row.label), 0) > row.occurrences
    ]
    if raised:
        statement = (
            update(cases).where(cases.c.id == bindparam("case")).values(occurrences=bindparam("occurrences_now"))
        )
        connection.execute(statement, raised)
    return bool(raised)


def set_keys(connection: Connection, stored: Sequence[StoredCase], representation: Representation) -> None:
    """Write the keys that a representation gives the cases, where these differ."""
    keys = [(case, representation.key(case, case.content_hash)) for case in stored]
    changed = [{"case": int(case.case_id[1:]), "new": key} for case, key in keys if key != case.key]
    if changed:
        connection.execute(update(cases).where(cases.c.id == bindparam("case")).values(key=bindparam("new")), changed)


def delete_orphaned_vectors(connection: Connection, name: str, *among: ColumnElement[bool]) -> list[tuple[str, str]]:
    """Delete a source's vectors that no case has; returns their keys and labels."""
    orphaned = and_(vectors.c.source == name, *among, ~exists().where(SAME_KEY))
    gone = connection.execute(select(vectors.c.key, vectors.c.label).where(orphaned)).all()
    connection.execute(delete(vectors).where(orphaned))
    return [(key, label) for key, label in gone]


def counts_and_vectors(
    engine: Engine, name: str, keys: Sequence[str], hashes: Sequence[str]
) -> tuple[list[tuple[dict[str, int], dict[str, int]]], dict[str, Vector]]:
    """The counts of n records, given by their keys and content hashes, and the stored vectors of known keys.

    Returns
    -------
    For each record the cases of each label with its key, and with its content; the vectors by key, each of shape
    ``(dimensions,)``.
    """
    of_keys = and_(cases.c.source == name, cases.c.key.in_(set(keys)))
    number = func.sum(cases.c.occurrences).label("n")
    by_key: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    by_content: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    stored: dict[str, Vector] = {}
    with engine.connect() as connection:
        query = select(cases.c.key, cases.c.label, number).where(of_keys).group_by(cases.c.key, cases.c.label)
        for key, label, count in connection.execute(query):
            by_key[key][label] = count
        columns = cases.c.key, cases.c.hash, cases.c.label
        with_content = select(*columns, number).where(of_keys, cases.c.hash.in_(set(hashes))).group_by(*columns)
        for key, content, label, count in connection.execute(with_content):
            by_content[key, content][label] = count
        if by_key:
            blobs = select(vectors.c.key, vectors.c.vector).where(
                vectors.c.source == name, vectors.c.key.in_(list(by_key))
            )
            for key, blob in connection.execute(blobs.order_by(vectors.c.key, vectors.c.label)):
                stored.setdefault(key, unpacked(blob))
    counts = [(by_key[key], by_content[key, content]) for key, content in zip(keys, hashes, strict=True)]
    return [(dict(templates), dict(contents)) for templates, contents in counts], stored


def unpacked(blob: bytes) -> Vector:
    """A vector from its bytes in the store, shape ``(dimensions,)``."""
    try:
        return np.frombuffer(blob, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise StoreFailure(f"a vector in the store is damaged: {error}", RESTORE_HINT) from error


def vectors_of_keys(engine: Engine, name: str, keys: Collection[str]) -> dict[KeyLabel, Vector]:
    """The stored vectors of ``keys``, each of shape ``(dimensions,)``."""
    query = select(vectors.c.key, vectors.c.label, vectors.c.vector)
    with engine.connect() as connection:
        rows = connection.execute(query.where(vectors.c.source == name, vectors.c.key.in_(keys))) if keys else ()
        return {(key, label): unpacked(blob) for key, label, blob in rows}


def cases_of_keys(
    engine: Engine, name: str, keys: Collection[str], hashes: Collection[str]
) -> dict[KeyLabel, tuple[StoredCase, dict[str, StoredCase]]]:
    """The oldest case of each of ``keys`` and label, and by hash the cases whose content is in ``hashes``."""
    if not keys:
        return {}
    of_keys = and_(cases.c.source == name, cases.c.key.in_(keys))
    oldest = select(func.min(cases.c.id)).where(of_keys).group_by(cases.c.key, cases.c.label)
    by_hash: defaultdict[KeyLabel, dict[str, StoredCase]] = defaultdict(dict)
    with engine.connect() as connection:
        first = [stored_case(row) for row in connection.execute(select(cases).where(cases.c.id.in_(oldest)))]
        if hashes:
            for row in connection.execute(select(cases).where(of_keys, cases.c.hash.in_(hashes))):
                by_hash[row.key, row.label][row.hash] = stored_case(row)
    return {(case.key, case.label): (case, by_hash[case.key, case.label]) for case in first}
