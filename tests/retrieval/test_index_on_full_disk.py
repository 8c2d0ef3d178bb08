"""The embedded index where it cannot be written to: searches are exact, and it is caught up when there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.casebook import Casebook
from retrieval.errors import NotWritable
from tests.disks import SmallDisk, disk, read_only
from tests.retrieval.making import ANOMALOUS, NORMAL, line, lines, with_cases
from tests.served import eventually

__all__ = ["disk"]
TEXTS = [*NORMAL, *ANOMALOUS]


@pytest.fixture(autouse=True)
def _by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 0)


@pytest.fixture
def book_at(embedder: object) -> Callable[[Path], Casebook]:
    def make(home: Path, store: Path | None = None) -> Casebook:
        return Casebook(home, f"sqlite:///{(store or home) / 'precedent.db'}", lambda: embedder)  # type: ignore[return-value, arg-type]

    return make  # type: ignore[return-value]


def nearest(book: Casebook) -> list[list[str]]:
    found = [book.find("s", line(text).record, line(text).content_hash, 3) for text in TEXTS]
    return [[near.case.text for near in each.nearest] for each in found]


def test_a_read_only_home_is_searched(tmp_path: Path, book_at: Callable[..., Casebook]) -> None:
    book = with_cases(book_at(tmp_path / "home"), "s", lines())
    expected = nearest(book)
    book.close()
    with read_only(tmp_path / "home") as view:
        book = book_at(view)
        assert nearest(book) == expected
        with pytest.raises(NotWritable):
            book.add("s", [line("a new one")], "test")
        assert nearest(book) == expected
        book.close()


def test_an_index_whose_disk_is_full_is_caught_up(
    disk: SmallDisk, tmp_path: Path, book_at: Callable[..., Casebook]
) -> None:
    # the store has room, the index has none
    book = with_cases(book_at(disk.path, tmp_path), "s", lines())
    expected = nearest(book)
    disk.fill()
    more = [line(f"{text} and again number {'abcdefghij'[place % 10] * 9}") for place, text in enumerate(TEXTS * 40)]
    with_cases(book, "s", more)
    exact = nearest(book)
    assert exact != expected
    book.change_case(f"c{1}", None, "test")
    assert nearest(book) != exact
    exact = nearest(book)
    disk.free()
    assert eventually(lambda: not book._synced._failing)
    assert nearest(book) == exact
    book.close()
    book = book_at(disk.path, tmp_path)
    assert nearest(book) == exact
    book.close()
