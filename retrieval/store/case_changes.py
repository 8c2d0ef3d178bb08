"""Single cases: listed, replaced with a record of who changed what when, and restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update

from retrieval.encoding.representation import Representation
from retrieval.store.cases import delete_orphaned_vectors
from retrieval.store.schema import case_changes, cases, vectors
from retrieval.types import StoredCase, stored_case

CaseRow = dict[str, Any]
_LARGEST_ID = 2**31 - 1
_CASE_PREFIX, _CHANGE_PREFIX = "c", "u"


@dataclass(frozen=True)
class CaseChange:
    """A change of the cases with one content.

    Attributes
    ----------
    action : str
        ``labelled`` (by a correction), ``relabelled``, ``deleted``, or ``undone``.
    label_before, label_after : str or None
        None: there was, or is, no case with this content.
    verdict_id : str or None
        The verdict that was corrected.
    undone : bool
        Whether the change was undone since.
    """

    number: int
    source: str
    content_hash: str
    case_id: str
    action: str
    label_before: str | None
    label_after: str | None
    changed_by: str
    changed_at: datetime
    verdict_id: str | None
    undone: bool

    @property
    def change_id(self) -> str:
        """The id of the change, such as ``u12``."""
        return f"{_CHANGE_PREFIX}{self.number}"

    def is_by(self, client: str) -> bool:
        """Whether that client made the change, or one that gave no name."""
        correction = f"feedback on {self.verdict_id}"
        return self.changed_by in (client, f"{correction}, {client}", correction)


class CaseRows:
    """Cases with all that is stored of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest(
        self, source: str, label: str | None, words: Sequence[str], limit: int, offset: int
    ) -> tuple[list[CaseRow], int]:
        """The newest cases of a source whose text has all ``words``, and how many there are in all."""
        where = [cases.c.source == source, *(cases.c.text.icontains(word, autoescape=True) for word in words)]
        if label is not None:
            where.append(cases.c.label == label)
        newest = select(cases).where(*where).order_by(cases.c.given_at.desc(), cases.c.id.desc())
        with self._engine.connect() as connection:
            total = connection.scalar(select(func.count()).select_from(cases).where(*where)) or 0
            rows = connection.execute(newest.limit(limit).offset(offset)).mappings().all()
        return [dict(row) for row in rows], total

    def get(self, case_id: str) -> CaseRow | None:
        """The case of that id."""
        with self._engine.connect() as connection:
            return case_of_id(connection, case_id)

    def changes(self, source: str, content_hash: str) -> list[CaseChange]:
        """The changes of the cases with one content, oldest first."""
        query = select(case_changes).where(case_changes.c.source == source, case_changes.c.hash == content_hash)
        with self._engine.connect() as connection:
            return [_change(row) for row in connection.execute(query.order_by(case_changes.c.id))]

    def change(self, change_id: str) -> CaseChange | None:
        """The change of that id, None if there is none."""
        query = select(case_changes).where(case_changes.c.id == _number(change_id, _CHANGE_PREFIX))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return _change(row) if row else None

    def last_change(self, *, verdict_id: str | None = None, case_id: str | None = None) -> CaseChange | None:
        """The newest change, not undone, that a verdict's correction made, or that was made to a case."""
        with self._engine.connect() as connection:
            return newest_change(connection, verdict_id=verdict_id, case_id=case_id)


def case_of_id(connection: Connection, case_id: str) -> CaseRow | None:
    """The case of that id, None if there is none."""
    number = _number(case_id)
    row = connection.execute(select(cases).where(cases.c.id == number)).mappings().first() if number else None
    return dict(row) if row else None


def rows_of_content(connection: Connection, name: str, content_hash: str) -> list[CaseRow]:
    """The cases of a source with that content."""
    query = select(cases).where(cases.c.source == name, cases.c.hash == content_hash).order_by(cases.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def newest_change(
    connection: Connection,
    *,
    source: str | None = None,
    content_hash: str | None = None,
    verdict_id: str | None = None,
    case_id: str | None = None,
) -> CaseChange | None:
    """The newest change that is not undone of a content, of a verdict, or of a case."""
    query = select(case_changes).where(case_changes.c.undone.is_(False), case_changes.c.action != "undone")
    if content_hash is not None:
        query = query.where(case_changes.c.source == source, case_changes.c.hash == content_hash)
    if verdict_id is not None:
        query = query.where(case_changes.c.verdict_id == verdict_id)
    if case_id is not None:
        query = query.where(case_changes.c.case_id == _number(case_id))
    row = connection.execute(query.order_by(case_changes.c.id.desc()).limit(1)).first()
    return _change(row) if row else None


def replace_content(
    connection: Connection,
    name: str,
    content_hash: str,
    rows: Sequence[CaseRow],
    action: str,
    changed_by: str,
    verdict_id: str | None = None,
    *,
    case: CaseRow | None = None,
    label: str | None = None,
) -> tuple[int, list[tuple[str, str]]]:
    """Replace all cases with one content by ``rows``, and keep a record of it.

    Parameters
    ----------
    rows
        A row without an id gets the one that a case with the content had; where its id is None, a new one.
    case, label
        The case that is changed, and its new label; by default those of the first of ``rows``.

    Returns
    -------
    The case's number, and the keys and labels of the vectors that no case has any more.
    """
    before = rows_of_content(connection, name, content_hash)
    same = and_(cases.c.source == name, cases.c.hash == content_hash)
    connection.execute(delete(cases).where(same))
    number = case["id"] if case else before[0]["id"] if before else None
    for row in rows:
        values = {"id": number, **row}
        if values["id"] is None:
            del values["id"]
        inserted = connection.execute(insert(cases).values(values)).inserted_primary_key
        number = number or (inserted[0] if inserted else None)
    assert number is not None
    first = case or (before[0] if before else None)
    change = {
        "source": name,
        "hash": content_hash,
        "case_id": number,
        "action": action,
        "label_before": first["label"] if first else None,
        "label_after": label if case else rows[0]["label"],
        "changed_by": changed_by,
        "changed_at": datetime.now(UTC),
        "verdict_id": verdict_id,
        "before": [{**row, "given_at": row["given_at"].isoformat()} for row in before],
        "undone": False,
    }
    connection.execute(insert(case_changes).values(change))
    keys = {row["key"] for row in before}
    return int(number), delete_orphaned_vectors(connection, name, vectors.c.key.in_(keys))


def replaced_rows(connection: Connection, change: CaseChange) -> list[Any]:
    """The rows of `cases` that a change replaced, as they were."""
    stored = connection.scalar(select(case_changes.c.before).where(case_changes.c.id == change.number)) or []
    return [_Row({"series": None, **row, "given_at": datetime.fromisoformat(row["given_at"])}) for row in stored]


class _Row(dict[str, Any]):
    """A row by attribute, as `stored_case` reads it."""

    __getattr__ = dict.__getitem__


def restore(
    connection: Connection, change: CaseChange, rows: Sequence[Any], representation: Representation, changed_by: str
) -> list[tuple[str, str]]:
    """Put back the rows that a change replaced, with the keys of today; returns the orphaned vectors."""
    restored = []
    for row in rows:
        stored: StoredCase = stored_case(row)
        row = {**row, "key": representation.key(stored, stored.content_hash)}
        taken = connection.execute(select(cases.c.hash).where(cases.c.id == row["id"])).first()
        if taken and taken.hash != change.content_hash:
            # SQLite gave the number of a removed case again up to revision 0006
            row["id"] = None
        restored.append(row)
    here: Mapping[str, Any] = {"id": _number(change.case_id), "label": change.label_after}
    _, orphans = replace_content(
        connection,
        change.source,
        change.content_hash,
        restored,
        "undone",
        changed_by,
        change.verdict_id,
        case=dict(here),
        label=change.label_before,
    )
    connection.execute(update(case_changes).where(case_changes.c.id == change.number).values(undone=True))
    return orphans


def _number(identifier: str, prefix: str = _CASE_PREFIX) -> int | None:
    digits = identifier[1:]
    valid = identifier[:1] == prefix and digits.isascii() and digits.isdecimal() and len(digits) <= 10
    return int(digits) if valid and 0 < int(digits) <= _LARGEST_ID else None


def _change(row: Any) -> CaseChange:
    return CaseChange(
        number=row.id,
        source=row.source,
        content_hash=row.hash,
        case_id=f"{_CASE_PREFIX}{row.case_id}",
        action=row.action,
        label_before=row.label_before,
        label_after=row.label_after,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
        verdict_id=row.verdict_id,
        undone=row.undone,
    )
