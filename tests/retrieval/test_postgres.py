"""What only a store on a PostgreSQL server has; all other tests of the store run on it as well."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, text

from retrieval.casebook import Casebook
from retrieval.errors import StoreFailure
from retrieval.store.caches import LLMCache, TemplateVerdicts
from retrieval.store.engine import open_store
from retrieval.store.schema import sources
from retrieval.store.verdicts import AlikeVerdict, History
from retrieval.store.watch import commit, live_counts
from tests.private_postgres import PrivatePostgres

from .making import row
from .test_sharing import in_threads
from .test_verdicts import body

END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres: PrivatePostgres) -> str:
    return postgres.empty_database()


def test_a_server_that_is_read_only_is_named(url: str) -> None:
    open_store(url).dispose()
    engine = open_store(url + "&options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(StoreFailure, match="it is read-only"), engine.begin() as connection:
        connection.execute(delete(sources))
    engine.dispose()


def test_connections_that_the_server_has_ended_are_made_again(url: str) -> None:
    """As after a restart of the server, or a failover."""
    engine, other = open_store(url), open_store(url)
    LLMCache(engine).put("q", 1.0)
    with other.begin() as connection:
        connection.execute(text(END_OTHERS))
    assert LLMCache(engine).get("q") == 1.0
    engine.dispose()
    other.dispose()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_url_may_be_written_as_other_programs_write_it(url: str, scheme: str) -> None:
    engine = open_store(url.replace("postgresql", scheme, 1))
    assert engine.dialect.driver == "psycopg"
    engine.dispose()


def test_the_extra_is_named_where_the_driver_is_missing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreFailure, match="cannot be opened") as raised:
        open_store(url)
    assert raised.value.hint == "pip install 'precedent-agent[postgres]'"


def test_two_that_write_the_same_rows_in_other_orders_get_along(url: str, tmp_path: Path) -> None:
    """PostgreSQL ends one of two transactions that wait for each other."""
    book = Casebook(tmp_path, url, lambda: None)  # type: ignore[arg-type,return-value]
    book.create("log")
    history, barrier, now = History(book.engine), threading.Barrier(2), datetime.now(UTC)
    history.put([body(999)])

    def write(numbers: Sequence[int]) -> None:
        for turn in range(6):
            barrier.wait(30)
            history.put(body(number) for number in numbers)
            history.put_alike([AlikeVerdict(f"a{turn}-{n}", "log", "normal", 0.2, '{"like": "v999"}') for n in numbers])
            TemplateVerdicts(book.engine, "log", f"s{turn}").put({str(number): {"n": number} for number in numbers})
            book.add("log", [row(turn * 200.0 + number, "de") for number in numbers], "a learner")
            commit(book.engine, "watch", "log", {}, {str(number): 1 for number in numbers}, [], now)

    in_threads([lambda: write(range(200)), lambda: write(range(200)[::-1])])
    assert len(book.cases("log")) == 1_200
    assert [count for *_, count in live_counts(book.engine, "log")] == [12] * 200
    book.close()
