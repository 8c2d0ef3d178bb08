"""Caches in the relational store: answers of the language model, verdicts of templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, select

from retrieval.store.schema import heard, insert_or_ignore, remembered

_CHUNK = 500


class LLMCache:
    """The language model's log-odds by the hash of what it was asked (model, prompt and masked text)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, question: str) -> float | None:
        with self._engine.connect() as connection:
            return connection.scalar(select(heard.c.log_odds).where(heard.c.question == question))

    def put(self, question: str, log_odds: float) -> None:
        values = {"question": question, "log_odds": log_odds}
        with self._engine.begin() as connection:
            connection.execute(insert_or_ignore(self._engine, heard), values)


class TemplateVerdicts:
    """A source's verdicts by the key of a template or text, as JSON bodies, for one ``state`` of all that made them."""

    def __init__(self, engine: Engine, source: str, state: str) -> None:
        self._engine, self._source, self._state = engine, source, state

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those that are there."""
        mine = select(remembered.c.key, remembered.c.body).where(
            remembered.c.source == self._source, remembered.c.state == self._state
        )
        out: dict[str, dict[str, Any]] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(keys), _CHUNK):
                some = mine.where(remembered.c.key.in_(keys[start : start + _CHUNK]))
                out.update((key, body) for key, body in connection.execute(some))
        return out

    def put(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep them; what was made in another state is forgotten."""
        mine = remembered.c.source == self._source
        keys = list(bodies)
        with self._engine.begin() as connection:
            connection.execute(delete(remembered).where(mine, remembered.c.state != self._state))
            for start in range(0, len(keys), _CHUNK):
                rows = [
                    {"source": self._source, "key": key, "state": self._state, "body": bodies[key]}
                    for key in keys[start : start + _CHUNK]
                ]
                connection.execute(insert_or_ignore(self._engine, remembered), rows)
