"""Reading and writing cases in the relational store, many keys in one query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, func, select, update

from retrieval.encoding.representation import Representation
from retrieval.index.exact import Vector, unpacked
from retrieval.store.schema import cases, insert_or_ignore, vectors
from retrieval.types import LABELS, NewCase, StoredCase, stored_case

Same = tuple[str, str]


def case_row(name: str, case: NewCase, space: Representation, given_by: str, times: int = 1) -> dict[str, Any]:
    """A case as a row of the table."""
    return {
        "source": name,
        "hash": case.content_hash,
        "key": space.key(case.record, case.content_hash),
        "label": case.label,
        "kind": case.kind,
        "text": case.record.text,
        "fields": dict(case.record.fields),
        "events": list(case.record.events),
        "file": case.file,
        "line": case.line,
        "time": case.time,
        "times": times,
        "given_by": given_by,
        "given_at": datetime.now(UTC),
    }


def insert_cases(
    connection: Connection,
    name: str,
    batch: Sequence[NewCase],
    space: Representation,
    given_by: str,
    seen: Mapping[Same, int],
) -> tuple[int, bool]:
    """Write the cases that are not there yet; how many they are, and whether others count for more now.

    ``seen``: how often each content came with each label so far.
    """
    once: dict[Same, NewCase] = {}
    for case in batch:
        once.setdefault((case.content_hash, case.label), case)
    rows = [case_row(name, case, space, given_by, seen[same]) for same, case in once.items()]
    query = insert_or_ignore(connection.engine, cases)
    added = connection.execute(query, rows, execution_options={"preserve_rowcount": True}).rowcount
    return added, _count(connection, name, {same: seen[same] for same in once if seen[same] > 1})


def _count(connection: Connection, name: str, times: Mapping[Same, int]) -> bool:
    """Raise what these contents and labels count for where they now came oftener; whether any did."""
    repeated = {content for content, _ in times}
    if not repeated:
        return False
    query = select(cases.c.id, cases.c.hash, cases.c.label, cases.c.times)
    there = connection.execute(query.where(cases.c.source == name, cases.c.hash.in_(repeated))).all()
    oftener = [
        {"case": one.id, "now": times[one.hash, one.label]}
        for one in there
        if times.get((one.hash, one.label), 0) > one.times
    ]
    if oftener:
        raised = update(cases).where(cases.c.id == bindparam("case")).values(times=bindparam("now"))
        connection.execute(raised, oftener)
    return bool(oftener)


def counts_and_vectors(
    engine: Engine, name: str, keys: Sequence[str], hashes: Sequence[str]
) -> tuple[list[tuple[dict[str, int], dict[str, int]]], dict[str, Vector]]:
    """Of each key and hash how many cases of each label have that key and that content; the known keys' vectors."""
    mine = and_(cases.c.source == name, cases.c.key.in_(set(keys)))
    number = func.sum(cases.c.times).label("n")
    by_key: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    by_content: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(LABELS, 0))
    with engine.connect() as connection:
        of_keys = select(cases.c.key, cases.c.label, number).where(mine).group_by(cases.c.key, cases.c.label)
        for found in connection.execute(of_keys):
            by_key[found.key][found.label] = found.n
        columns = cases.c.key, cases.c.hash, cases.c.label
        of_contents = select(*columns, number).where(mine, cases.c.hash.in_(set(hashes))).group_by(*columns)
        for key, content, label, n in connection.execute(of_contents):
            by_content[key, content][label] = n
        there = select(vectors.c.key, vectors.c.vector).where(vectors.c.source == name, vectors.c.key.in_(list(by_key)))
        kept: dict[str, Vector] = {}
        for key, blob in connection.execute(there.order_by(vectors.c.key, vectors.c.label)) if by_key else ():
            kept.setdefault(key, unpacked(blob))
    counted = [(by_key[key], by_content[key, one]) for key, one in zip(keys, hashes, strict=True)]
    return [(dict(templates), dict(contents)) for templates, contents in counted], kept


def vectors_of_keys(engine: Engine, name: str, keys: Collection[str]) -> dict[tuple[str, str], Vector]:
    """The stored vectors of ``keys`` by key and label, each of shape ``(dimensions,)``."""
    query = select(vectors.c.key, vectors.c.label, vectors.c.vector)
    with engine.connect() as connection:
        found = connection.execute(query.where(vectors.c.source == name, vectors.c.key.in_(keys))) if keys else ()
        return {(key, label): unpacked(blob) for key, label, blob in found}


def cases_of_keys(
    engine: Engine, name: str, keys: Collection[str], hashes: Collection[str]
) -> dict[tuple[str, str], tuple[StoredCase, dict[str, StoredCase]]]:
    """By key and label: the oldest case of ``keys``, and by hash those whose content is in ``hashes``."""
    if not keys:
        return {}
    of_keys = and_(cases.c.source == name, cases.c.key.in_(keys))
    oldest = select(func.min(cases.c.id)).where(of_keys).group_by(cases.c.key, cases.c.label)
    by_hash: defaultdict[tuple[str, str], dict[str, StoredCase]] = defaultdict(dict)
    with engine.connect() as connection:
        first = [stored_case(row) for row in connection.execute(select(cases).where(cases.c.id.in_(oldest)))]
        if hashes:
            for row in connection.execute(select(cases).where(of_keys, cases.c.hash.in_(hashes))):
                by_hash[row.key, row.label][row.hash] = stored_case(row)
    return {(case.key, case.label): (case, by_hash[case.key, case.label]) for case in first}
