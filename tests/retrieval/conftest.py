"""Memory with its real parts: MiniLM from the user's cache, a store of each kind, Chroma in the test's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.settings import Settings
from llm.weights.resolver import resolve
from retrieval.casebook import Casebook
from retrieval.encoding.text_embedder import Embedder

Opener = Callable[..., Casebook]


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(resolve("all-MiniLM-L6-v2", cache=Settings().cache, offline=True).path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def open_book(home: Path, store_url: str, embedder: Embedder) -> Iterator[Opener]:
    """Opens the casebook of the test's data directory, as often as wanted; every one is closed at the end."""
    opened: list[Casebook] = []

    def opener(other: Embedder | None = None) -> Casebook:
        book = Casebook(home, store_url, lambda: other or embedder)
        opened.append(book)
        return book

    yield opener
    for book in opened:
        book.close()


@pytest.fixture
def book(open_book: Opener) -> Casebook:
    return open_book()


@pytest.fixture(autouse=True)
def no_source_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sources are searched exactly: the tests of the index have small ones that are searched by it."""
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)
