"""How cases are written into the relational store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from retrieval.cases import NewCase
from retrieval.space import Space
from retrieval.store import cases, insert_or_ignore

Same = tuple[str, str]


def case_row(name: str, case: NewCase, space: Space, given_by: str, times: int = 1) -> dict[str, Any]:
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


def file_cases(
    connection: Connection, name: str, batch: Sequence[NewCase], space: Space, given_by: str, seen: Mapping[Same, int]
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
