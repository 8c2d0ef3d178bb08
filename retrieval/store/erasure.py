"""Erasing what a source holds on some records: its cases, and every row that quotes them, from the file as well."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Table,
    TableClause,
    and_,
    column,
    delete,
    inspect,
    or_,
    select,
    table,
    update,
)

from retrieval.store.cases import delete_orphaned_vectors
from retrieval.store.engine import changing
from retrieval.store.schema import (
    case_changes,
    cases,
    earlier_fits,
    held_corrections,
    live_groups,
    llm_cache,
    sources,
    template_verdicts,
    verdicts,
    watches,
)
from retrieval.store.sources import Sources

Matches = Callable[[str], bool]
# the step, and how many rows of it were read
Progress = Callable[[str, int, int], None]
# in a fit that was made with records which were erased since
KNOWS_ERASED = "knows_erased"
_CHUNK = 500
_EXAMPLES = 5
# by the kind that is reported: the table, the columns of a row's identity, and those that may quote a record
_QUOTING: dict[str, tuple[Table, tuple[str, ...], tuple[str, ...]]] = {
    "cases": (
        *(cases, ("id",)),
        ("text", "fields", "events", "series", "label_value", "file", "time", "given_by"),
    ),
    "corrections": (case_changes, ("id",), ("before", "changed_by")),
    "template_verdicts": (template_verdicts, ("key",), ("body",)),
    "live_groups": (live_groups, ("template", "label"), ("text", "why", "first_seen", "last_seen")),
    "watches": (watches, ("key",), ("state",)),
}
# of conversations, which are no source's; LangChain makes the table
_CHAT = table("chat_messages", column("id"), column("message"))


def knows_erased(source_model: Mapping[str, Any] | None) -> bool:
    """Whether a fit was made with records that were erased since."""
    return bool((source_model or {}).get(KNOWS_ERASED))


def strings_of(value: Any) -> Iterator[str]:
    """All texts in a value as JSON has it, names of fields and numbers as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from strings_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings_of(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class Erasure:
    """Finds what a source holds on records whose texts match, and erases it.

    Attributes
    ----------
    counts : dict of str to int
        Rows that were found, by kind.
    examples : list of str
        Texts of the first cases and verdicts among them.
    """

    def __init__(self, engine: Engine, name: str, matches: Matches, progress: Progress | None = None) -> None:
        self._engine, self._name, self._progress = engine, name, progress
        self._matches = matches
        self.counts: dict[str, int] = {}
        self.examples: list[str] = []

    def find(self) -> None:
        """Count what is found, and change nothing."""
        with self._engine.connect() as connection:
            found = {kind: self._quoting(connection, kind) for kind in _QUOTING}
            self._add_corrections(connection, found)
            self.counts |= {kind: len(identities) for kind, identities in found.items()}
            self.counts["verdicts"] = len(self._verdicts(connection)[0])
            self.counts["chat_messages"] = len(self._messages(connection))
            self.counts |= self._settings_found(connection)

    def erase(self) -> list[tuple[str, str]]:
        """Erase in one transaction all that is found; returns the keys and labels of vectors that no case has then."""
        with changing(self._engine, self._name) as connection:
            if self._engine.dialect.name == "sqlite":
                # what is deleted is overwritten
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            found = {kind: self._quoting(connection, kind) for kind in _QUOTING}
            self._add_corrections(connection, found)
            for kind, identities in found.items():
                self.counts[kind] = len(identities)
                self._delete(connection, *_QUOTING[kind][:2], identities)
            self._erase_verdicts(connection)
            self._erase_held(connection)
            messages = self._messages(connection)
            self.counts["chat_messages"] = len(messages)
            _delete_by_id(connection, _CHAT, messages)
            self.counts |= self._settings_found(connection)
            self._erase_settings(connection)
            orphans = delete_orphaned_vectors(connection, self._name)
            self.counts["vectors"] = len(orphans)
            if found["cases"]:
                self._mark_fit(connection)
                # of hashes that do not say whose they are
                self.counts["llm_answers"] = connection.execute(delete(llm_cache)).rowcount
                connection.execute(delete(template_verdicts).where(template_verdicts.c.source == self._name))
            Sources.cases_changed(connection, self._name)
            Sources.update(connection, self._name, erasures=sources.c.erasures + 1)
        return orphans

    def _rows(self, connection: Connection, table: Table, names: tuple[str, ...], kind: str) -> Iterator[Any]:
        columns: list[Column[Any]] = [table.c[name] for name in names]
        query = select(*columns).where(table.c.source == self._name).execution_options(yield_per=_CHUNK)
        for number, row in enumerate(connection.execute(query)):
            if self._progress and number % _CHUNK == 0:
                self._progress(f"reading {kind}", number, 0)
            yield row

    def _quotes(self, *values: Any) -> bool:
        return any(self._matches(text) for value in values for text in strings_of(value))

    def _example(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES and text not in self.examples:
            self.examples.append(text)

    def _quoting(self, connection: Connection, kind: str) -> list[tuple[Any, ...]]:
        """The identities of a table's rows that match."""
        table, identity, quoting = _QUOTING[kind]
        found = []
        for row in self._rows(connection, table, (*identity, *quoting), kind):
            if self._quotes(*row[len(identity) :]):
                found.append(tuple(row[: len(identity)]))
                if kind == "cases":
                    self._example(row.text)
        return found

    def _add_corrections(self, connection: Connection, found: dict[str, list[tuple[Any, ...]]]) -> None:
        """Add the changes of the cases that were found, which need not quote them."""
        corrections = set(found["corrections"])
        for start in range(0, len(found["cases"]), _CHUNK):
            part = [number for (number,) in found["cases"][start : start + _CHUNK]]
            hashes = select(cases.c.hash).where(cases.c.id.in_(part))
            of_source = select(case_changes.c.id).where(case_changes.c.source == self._name)
            corrections |= {
                (number,) for number in connection.scalars(of_source.where(case_changes.c.hash.in_(hashes)))
            }
        found["corrections"] = sorted(corrections)

    def _delete(
        self, connection: Connection, table: Table, identity: tuple[str, ...], found: list[tuple[Any, ...]]
    ) -> None:
        for values in found:
            same = [table.c[name] == value for name, value in zip(identity, values, strict=True)]
            connection.execute(delete(table).where(table.c.source == self._name, *same))

    def _verdicts(self, connection: Connection) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """The ids of verdicts that match, and by id the whole bodies of others that were stored as like these."""
        found, likes = dict[str, dict[str, Any]](), list[tuple[str, dict[str, Any]]]()
        for row in self._rows(connection, verdicts, ("id", "body"), "verdicts"):
            if self._quotes(row.body):
                found[row.id] = row.body
                self._example(str(row.body.get("record", {}).get("text", "")))
            elif "like" in row.body:
                likes.append((row.id, row.body))
        whole = dict[str, dict[str, Any]]()
        for verdict_id, body in likes:
            if (base := found.get(body["like"])) is None:
                continue
            completed = {**base, **{name: value for name, value in body.items() if name != "like"}, "id": verdict_id}
            if self._quotes({name: value for name, value in completed.items() if name != "like"}):
                found[verdict_id] = body
            else:
                whole[verdict_id] = completed
        return list(found), whole

    def _messages(self, connection: Connection) -> list[int]:
        """The ids of messages to and from the agent that match, of all conversations."""
        if not inspect(connection).has_table(_CHAT.name):
            return []
        rows = connection.execute(select(_CHAT.c.id, _CHAT.c.message))
        return [row.id for row in rows if self._quotes(json.loads(row.message))]

    def _erase_verdicts(self, connection: Connection) -> None:
        ids, whole = self._verdicts(connection)
        for verdict_id, body in whole.items():
            connection.execute(update(verdicts).where(verdicts.c.id == verdict_id).values(body=body))
        _delete_by_id(connection, verdicts, ids)
        self.counts["verdicts"] = len(ids)

    def _erase_held(self, connection: Connection) -> None:
        """Erase the corrections whose verdict or case is not stored any more."""
        verdict, case = held_corrections.c.verdict_id, held_corrections.c.case_id
        lost = or_(
            and_(verdict.is_not(None), verdict.not_in(select(verdicts.c.id))),
            and_(case.is_not(None), case.not_in(select(cases.c.id))),
        )
        connection.execute(delete(held_corrections).where(held_corrections.c.source == self._name, lost))

    def _mark_fit(self, connection: Connection) -> None:
        """Note in the present fit that it knows erased records, for a run that ends before it is made again."""
        fit = connection.scalar(select(sources.c.source_model).where(sources.c.name == self._name))
        if fit is not None:
            Sources.update(connection, self._name, source_model={**fit, KNOWS_ERASED: True})

    def _settings(self, connection: Connection) -> Any:
        columns = (sources.c.brief, sources.c.reading, sources.c.representation)
        return connection.execute(select(*columns).where(sources.c.name == self._name)).one()

    def _settings_found(self, connection: Connection) -> dict[str, int]:
        row = self._settings(connection)
        quoted = {"brief": row.brief, "settings": row.reading, "representation": row.representation}
        return {kind: int(self._quotes(value)) for kind, value in quoted.items()}

    def _erase_settings(self, connection: Connection) -> None:
        row = self._settings(connection)
        values: dict[str, Any] = {}
        if self.counts["brief"]:
            values |= {"brief": "", "brief_by": "nobody"}
        if self.counts["settings"]:
            values["reading"] = {
                name: [entry for entry in value if not self._quotes(entry)] if isinstance(value, list) else value
                for name, value in row.reading.items()
                if isinstance(value, list) or not self._quotes(value)
            }
        if values:
            Sources.update(connection, self._name, **values)


def _delete_by_id(connection: Connection, of: TableClause, ids: Sequence[str] | Sequence[int]) -> None:
    for start in range(0, len(ids), _CHUNK):
        connection.execute(delete(of).where(of.c.id.in_(ids[start : start + _CHUNK])))


def erase_fits(engine: Engine, name: str, *, present: bool) -> None:
    """Erase the earlier fit of a source, and the ``present`` one if it could not be made again without the records."""
    with engine.begin() as connection:
        connection.execute(delete(earlier_fits).where(earlier_fits.c.source == name))
        if present:
            Sources.update(connection, name, source_model=None, models=None)


def clean_file(engine: Engine) -> str | None:
    """Write an SQLite store anew without what was deleted, and empty its log; why bytes may be left, None if not."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return "the database server keeps deleted rows until it vacuums (VACUUM FULL), and in its own backups and logs"
    engine.dispose()
    connection = sqlite3.connect(engine.url.database, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("VACUUM")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        return f"{engine.url.database} could not be written anew ({error}): run it again when nobody has it open"
    finally:
        connection.close()
    log = Path(f"{engine.url.database}-wal")
    return f"another process reads {log}: run the command again when it is done" if busy else None
