"""The history: verdicts by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, or_, select, tuple_, update

from retrieval.errors import StoreFailure
from retrieval.store.engine import RowInsert, insert_statement
from retrieval.store.schema import verdicts

_CHUNK = 500
# other writers wait while they are removed
_PRUNED_AT_ONCE = 5_000


class AlikeVerdict(NamedTuple):
    """A row of a verdict that differs from another, stored one in few keys.

    ``body`` is a JSON object as text: the other's id as ``like``, and the keys that differ.
    """

    id: str
    source: str
    label: str
    probability: float
    body: str


class PlacedVerdict(NamedTuple):
    """The body of a verdict on a record of a file, and when it was given last."""

    file: str
    body: dict[str, Any]
    judged_at: datetime


class History:
    """Verdicts by id, as JSON bodies (the contract's)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Store verdicts; a verdict on a record replaces an earlier one of the same id on the same record.

        Raises
        ------
        StoreFailure
            An id is in use for another record.
        """
        by_id = {body["id"]: body for body in bodies}
        # in one order in all processes: PostgreSQL would find a deadlock between two that write the same verdicts
        ids, now = sorted(by_id), datetime.now(UTC)
        # those given together keep their order by a microsecond each
        places = {verdict_id: place for place, verdict_id in enumerate(by_id)}
        insert = insert_statement(self._engine, verdicts)
        changed = {name: insert.excluded[name] for name in ("label", "probability", "body", "judged_at")}
        upsert = insert.on_conflict_do_update(index_elements=[verdicts.c.id], set_=changed)
        stored = select(verdicts.c.id, verdicts.c.source, verdicts.c.body["record"].label("record"))
        with self._engine.begin() as connection:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                for row in connection.execute(stored.where(verdicts.c.id.in_(chunk))):
                    body = by_id[row.id]
                    if _identity(row.source, row.record) != _identity(body["source"], body["record"]):
                        raise StoreFailure(f"verdict {row.id} in the history is about another record")
                rows = [
                    {name: body[name] for name in ("id", "source", "label", "probability")}
                    | {"body": body, "judged_at": now + timedelta(microseconds=places[body["id"]])}
                    for body in map(by_id.__getitem__, chunk)
                ]
                connection.execute(upsert, rows)

    def put_alike(self, rows: Sequence[AlikeVerdict]) -> None:
        """Store verdicts that differ from others in few keys.

        A verdict that is stored under one of the ids stays, because others may be like it.
        """
        if rows:
            with self._engine.begin() as connection:
                self._touch.execute(connection, sorted(rows), datetime.now(UTC))

    @cached_property
    def _touch(self) -> RowInsert:
        insert = insert_statement(self._engine, verdicts)
        touch = insert.on_conflict_do_update(
            index_elements=[verdicts.c.id], set_={"judged_at": insert.excluded.judged_at}
        )
        return RowInsert(self._engine, touch, AlikeVerdict._fields, verdicts.c.judged_at)

    def get(self, verdict_id: str) -> dict[str, Any] | None:
        """The verdict's body, None when there is none of that id."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(verdicts.c.id, verdicts.c.body).where(verdicts.c.id == verdict_id)).all()
            return next((body for _, body in _bodies(connection, rows)), None)

    def newest_at(self, source: str) -> datetime | None:
        """When the newest verdict of a source was given; None if there is none."""
        with self._engine.connect() as connection:
            newest: datetime | None = connection.scalar(
                select(func.max(verdicts.c.judged_at)).where(verdicts.c.source == source)
            )
        return newest

    def find(
        self, *, source: str | None, label: str | None = None, since: datetime | None = None, limit: int
    ) -> list[tuple[dict[str, Any], str | None, datetime]]:
        """The last ``limit`` verdicts, newest first, each with its correction and its time.

        Parameters
        ----------
        source, label
            Only verdicts of this source, and with this label; None: of any.
        since
            Only verdicts given then or later; None: at any time.
        """
        query = select(verdicts.c.id, verdicts.c.body, verdicts.c.corrected_to, verdicts.c.judged_at)
        for column, value in ((verdicts.c.source, source), (verdicts.c.label, label)):
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(verdicts.c.judged_at >= since)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(verdicts.c.judged_at.desc(), verdicts.c.id).limit(limit)).all()
            return [(body, row.corrected_to, row.judged_at) for row, body in _bodies(connection, rows)]

    def at_line(self, line: int) -> list[PlacedVerdict]:
        """The verdicts on records at that line of any file, newest first."""
        record = verdicts.c.body["record"]
        query = select(verdicts.c.id, verdicts.c.body, verdicts.c.judged_at, record["file"].as_string().label("file"))
        query = query.where(record["line"].as_integer() == line, record["file"].as_string().is_not(None))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(verdicts.c.judged_at.desc())).all()
            return [PlacedVerdict(row.file, body, row.judged_at) for row, body in _bodies(connection, rows)]

    def source_of_file(self, file: str) -> str | None:
        """The source whose verdict on a record of the file is the newest; None if there is none."""
        query = select(verdicts.c.source).where(verdicts.c.body["record"]["file"].as_string() == file)
        with self._engine.connect() as connection:
            return connection.scalar(query.order_by(verdicts.c.judged_at.desc()).limit(1))

    def counts(self, source: str, since: datetime | None = None, until: datetime | None = None) -> dict[str, int]:
        """How many verdicts of each label a source has, judged from ``since`` and before ``until``."""
        query = select(verdicts.c.label, func.count()).where(*_between(source, since, until))
        with self._engine.connect() as connection:
            return dict(connection.execute(query.group_by(verdicts.c.label)).all())

    def most_anomalous(
        self, source: str, since: datetime | None, label: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """The verdicts of a source with the highest probabilities, one for each record's text."""
        query = select(verdicts.c.id, verdicts.c.body).where(*_between(source, since, None))
        if label is not None:
            query = query.where(verdicts.c.label == label)
        # alike records come often; some more are read, so that enough are different
        query = query.order_by(verdicts.c.probability.desc(), verdicts.c.judged_at.desc()).limit(20 * limit)
        with self._engine.connect() as connection:
            bodies = [body for _, body in _bodies(connection, connection.execute(query).all())]
        by_text = {body["record"]["text"]: body for body in reversed(bodies)}
        return sorted(by_text.values(), key=lambda body: -body["probability"])[:limit]

    def corrected_to(self, verdict_id: str) -> str | None:
        """The label that a person gave the verdict's record, if one did."""
        with self._engine.connect() as connection:
            return connection.scalar(select(verdicts.c.corrected_to).where(verdicts.c.id == verdict_id))

    def corrected(self, verdict_id: str, label: str | None) -> None:
        """Note that a person corrected the verdict to ``label``; None: that the correction was undone."""
        with self._engine.begin() as connection:
            connection.execute(update(verdicts).where(verdicts.c.id == verdict_id).values(corrected_to=label))

    def prune(self, *, max_age_days: float | None = None, max_rows: int | None = None) -> int:
        """Remove verdicts that are too old or too many, the oldest first.

        A verdict stays while one that stays is stored as like it.

        Parameters
        ----------
        max_age_days
            Age from which verdicts are removed; None: any age is kept.
        max_rows
            How many verdicts of all sources stay; None: any number.

        Returns
        -------
        How many were removed.
        """
        excess = []
        if max_age_days is not None:
            excess.append(verdicts.c.judged_at < datetime.now(UTC) - timedelta(days=max_age_days))
        if max_rows is not None and (first := self._first_beyond(max_rows)) is not None:
            excess.append(tuple_(verdicts.c.judged_at, verdicts.c.id) <= first)
        if not excess:
            return 0
        like = verdicts.c.body["like"].as_string()
        needed = select(like).where(~or_(*excess), like.is_not(None))
        removed = 0
        # those that are like others first: what they are like is needed until they are gone
        for condition in (like.is_not(None), verdicts.c.id.not_in(needed)):
            part = select(verdicts.c.id).where(or_(*excess), condition).limit(_PRUNED_AT_ONCE)
            while True:
                with self._engine.begin() as connection:
                    count = connection.execute(delete(verdicts).where(verdicts.c.id.in_(part))).rowcount
                removed += count
                if count < _PRUNED_AT_ONCE:
                    break
        return removed

    def _first_beyond(self, count: int) -> tuple[datetime, str] | None:
        """Time and id of the newest verdict that ``count`` verdicts are newer than; None if there is none."""
        newest = verdicts.c.judged_at.desc(), verdicts.c.id.desc()
        query = select(verdicts.c.judged_at, verdicts.c.id).order_by(*newest).offset(count).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.judged_at, row.id)

    def missing(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids under which no verdict is stored."""
        found = set[str]()
        with self._engine.connect() as connection:
            for start in range(0, len(ids), _CHUNK):
                query = select(verdicts.c.id).where(verdicts.c.id.in_(ids[start : start + _CHUNK]))
                found.update(connection.scalars(query))
        return set(ids) - found


def _between(source: str, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    where = [verdicts.c.source == source]
    if since is not None:
        where.append(verdicts.c.judged_at >= since)
    if until is not None:
        where.append(verdicts.c.judged_at < until)
    return where


def _identity(source: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the id of a verdict covers of its source and record."""
    return source, record["text"], record["fields"], record.get("events"), record["file"], record["line"]


def _bodies(connection: Connection, rows: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """The rows, each with its body; of those stored as like others, completed from these.

    A row is left out if the verdict that it is like was pruned after it was read.
    """
    likes = list({row.body["like"] for row in rows if "like" in row.body})
    others: dict[str, dict[str, Any]] = {}
    for start in range(0, len(likes), _CHUNK):
        chunk = select(verdicts.c.id, verdicts.c.body).where(verdicts.c.id.in_(likes[start : start + _CHUNK]))
        others.update((row.id, row.body) for row in connection.execute(chunk))
    out = list[tuple[Any, dict[str, Any]]]()
    for row in rows:
        body = dict(row.body)
        if (like := body.pop("like", None)) is None:
            out.append((row, body))
        elif like in others:
            out.append((row, {**others[like], **body, "id": row.id}))
    return out
