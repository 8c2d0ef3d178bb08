"""Answers of the language model: the first one stays, the ones used last survive pruning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from retrieval.casebook import Casebook
from retrieval.store.caches import LLMCache
from retrieval.store.schema import llm_cache


def test_the_first_answer_stays(book: Casebook) -> None:
    cache = LLMCache(book.engine)
    assert cache.get("question") is None
    cache.put("question", -1.25)
    cache.put("question", 3.0)
    assert cache.get("question") == -1.25
    cache.put("other", 0.0)
    assert cache.get("other") == 0.0


def test_the_answers_used_last_are_kept(book: Casebook) -> None:
    cache = LLMCache(book.engine)
    for number in range(6):
        cache.put(f"q{number}", float(number))
    with book.engine.begin() as connection:
        for number in range(4):
            used = datetime.now(UTC) - timedelta(days=10 - number)
            connection.execute(update(llm_cache).where(llm_cache.c.question == f"q{number}").values(used_at=used))
        # as a migrated store has it
        connection.execute(update(llm_cache).where(llm_cache.c.question == "q5").values(used_at=None))
    assert cache.get("q0") == 0.0
    assert cache.prune(max_rows=3) == 3
    with book.engine.connect() as connection:
        assert set(connection.scalars(select(llm_cache.c.question))) == {"q0", "q3", "q4"}
    assert cache.prune(max_rows=3) == 0
