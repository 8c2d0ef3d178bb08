"""Records and cases for the tests of memory."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from agent.core.records import Label, Record
from agent.training.learn import as_case
from retrieval.casebook import Casebook, NewCase, RetrievalResult
from retrieval.store.schema import cases, vectors

NORMAL = (
    "session opened for user root by cron",
    "connection accepted from the load balancer",
    "checkpoint complete after writing buffers",
    "automatic vacuum of table accounts finished",
    "health check answered in time",
    "configuration file reloaded without changes",
)
ANOMALOUS = (
    "kernel panic: unable to handle page fault",
    "disk failure: sector cannot be read",
    "machine check interrupt on processor core",
    "out of memory: process was killed",
    "replication broken: the standby is gone",
    "data corruption detected in index block",
)


def line(text: str, label: Label = "normal") -> NewCase:
    return as_case(Record(text=text), label)


def lines() -> list[NewCase]:
    return [line(text) for text in NORMAL] + [line(text, "anomalous") for text in ANOMALOUS]


def row(amount: float, country: str, label: Label = "normal") -> NewCase:
    return as_case(payment(amount, country), label)


def payment(amount: float, country: str) -> Record:
    return Record(text=f"amount is {amount:g} country is {country}", fields={"amount": amount, "country": country})


def table(size: int = 40) -> list[NewCase]:
    """Payments; those over 1,000 are anomalous, a quarter of all."""
    return [
        row(float(10 * i + 3), "de" if i % 3 else "fr") if i % 4 else row(1000.0 + 10 * i, "xx", "anomalous")
        for i in range(size)
    ]


def with_cases(book: Casebook, name: str, new: Sequence[NewCase]) -> Casebook:
    book.add(name, new, "file test")
    book.sync(name)
    return book


def find(book: Casebook, name: str, record: Record, k: int = 3) -> RetrievalResult:
    return book.find(name, record, record.content_hash, k)


def near(book: Casebook, name: str, record: Record, k: int = 3) -> list[tuple[str, str, float]]:
    """Label, text and similarity of what was found."""
    return [
        (neighbour.case.label, neighbour.case.text, round(neighbour.similarity, 5))
        for neighbour in find(book, name, record, k).nearest
    ]


def stored_vectors(book: Casebook, name: str) -> int:
    with book.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(vectors).where(vectors.c.source == name)) or 0


def distinct_keys(book: Casebook, name: str) -> int:
    pairs = select(cases.c.key, cases.c.label).where(cases.c.source == name).distinct().subquery()
    with book.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(pairs)) or 0


def indexed(book: Casebook, name: str) -> int:
    """How many vectors Chroma itself holds of the source."""
    assert book._index.owned()
    return sum(book._index.count(name, label) for label in ("normal", "anomalous"))
