"""Caches in the relational store: answers of the language model, verdicts of templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import Engine, delete, select, update

from retrieval.errors import NotWritable
from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import llm_cache, template_verdicts

_CHUNK = 500
# how exactly the last use of an answer is known: writing it down at every use would make reads as slow as writes
_USE = timedelta(days=1)


class LLMCache:
    """The language model's log-odds by the hash of its input (model, prompt and masked text)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, question: str) -> float | None:
        """The cached log-odds, None when there are none."""
        row, now = llm_cache.c.question == question, datetime.now(UTC)
        with self._engine.connect() as connection:
            cached = connection.execute(select(llm_cache.c.log_odds, llm_cache.c.used_at).where(row)).first()
            if cached is None:
                return None
            if cached.used_at is None or now - cached.used_at.replace(tzinfo=UTC) > _USE:
                # a cache that cannot be written to is still read
                with suppress(NotWritable):
                    connection.execute(update(llm_cache).where(row).values(used_at=now))
                    connection.commit()
            return float(cached.log_odds)

    def put(self, question: str, log_odds: float) -> None:
        """Cache the log-odds, where the store can be written to; an earlier answer to the same question stays."""
        values = {"question": question, "log_odds": log_odds, "used_at": datetime.now(UTC)}
        with suppress(NotWritable), self._engine.begin() as connection:
            connection.execute(insert_or_ignore(self._engine, llm_cache), values)

    def prune(self, *, max_rows: int) -> int:
        """Keep the ``max_rows`` answers used last (to the day); returns how many were removed."""
        newest = llm_cache.c.used_at.desc().nulls_last(), llm_cache.c.question
        kept = select(llm_cache.c.question).order_by(*newest).limit(max_rows)
        with self._engine.begin() as connection:
            return connection.execute(delete(llm_cache).where(llm_cache.c.question.not_in(kept))).rowcount


class TemplateVerdicts:
    """Verdicts of one source as JSON bodies, by the key of a template or text.

    ``state`` is a hash of all that they depend on beside the record; verdicts of another state are not found.
    """

    def __init__(self, engine: Engine, source: str, state: str) -> None:
        self._engine, self._source, self._state = engine, source, state

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The bodies of those ``keys`` that are cached."""
        table = template_verdicts.c
        query = select(table.key, table.body).where(table.source == self._source, table.state == self._state)
        bodies: dict[str, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(keys), _CHUNK):
                chunk = query.where(table.key.in_(keys[start : start + _CHUNK]))
                bodies.update((key, body) for key, body in connection.execute(chunk))
        return bodies

    def put(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Cache bodies by key, where the store can be written to, and remove those of other states."""
        # in one order in all processes: PostgreSQL would find a deadlock between two that write the same keys
        rows = [
            {"source": self._source, "key": key, "state": self._state, "body": body}
            for key, body in sorted(bodies.items(), key=itemgetter(0))
        ]
        outdated = template_verdicts.c.source == self._source, template_verdicts.c.state != self._state
        with suppress(NotWritable), self._engine.begin() as connection:
            connection.execute(delete(template_verdicts).where(*outdated))
            if rows:
                connection.execute(insert_or_ignore(self._engine, template_verdicts), rows)
