"""An index on a real Chroma server: shared by processes, and lost or behind at any time without a wrong neighbour."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.casebook import Casebook
from retrieval.errors import StoreFailure
from retrieval.index import chroma as chroma_module
from retrieval.index.chroma import NoIndex, VectorIndex
from tests.private_chroma import PrivateChroma
from tests.private_postgres import PrivatePostgres
from tests.served import eventually

from .making import distinct_keys, find, indexed, near, payment, row, stored_vectors, table, with_cases
from .test_sharing import process, result_of

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
QUERY = payment(1105.0, "xx")
Neighbours = list[tuple[str, str, float]]
Open = Callable[[], Casebook]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateChroma]:
    made = PrivateChroma(tmp_path_factory.mktemp("chroma"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A source of the test's own: its collections are on the server that all tests use."""
    return f"s{abs(hash(request.node.name))}"


@pytest.fixture
def open_book(tmp_path: Path, server: PrivateChroma) -> Iterator[Open]:
    opened: list[Casebook] = []

    def opener() -> Casebook:
        opened.append(Casebook(tmp_path, f"sqlite:///{tmp_path / 'p.db'}", lambda: None, server.url))  # type: ignore[arg-type,return-value]
        return opened[-1]

    yield opener
    for book in opened:
        book.close()


class Exact(Casebook):
    """Searches the stored vectors."""

    index_class = NoIndex


def exactly(book: Casebook, name: str) -> Neighbours:
    """What the store itself gives."""
    other = Exact(Path(), book.engine.url.render_as_string(hide_password=False), lambda: None)  # type: ignore[arg-type,return-value]
    found = near(other, name, QUERY)
    other.close()
    return found


def is_searched(book: Casebook, name: str) -> bool:
    """Whether the index is used again, and holds what the store holds."""
    find(book, name, QUERY)
    return book._synced._synced[name][1] and indexed(book, name) == stored_vectors(book, name)


def test_processes_share_it_and_find_the_same(tmp_path: Path, store_url: str, name: str, server: PrivateChroma) -> None:
    books = [Casebook(tmp_path / home, store_url, lambda: None, server.url) for home in "ab"]  # type: ignore[arg-type,return-value]
    with_cases(books[0], name, table()[:30])
    for book in books:
        find(book, name, QUERY)
    # the second adds, the first follows
    with_cases(books[1], name, table()[30:])
    for book in books:
        assert near(book, name, QUERY) == exactly(book, name)
        assert is_searched(book, name)
    books[0].relabel(name, table()[4], "a person")
    books[1].relabel(name, row(1040.0, "xx"), "a person")
    assert near(books[0], name, payment(1040.0, "xx"), 1)[0][0] == "normal"
    for book in books:
        assert near(book, name, QUERY) == exactly(book, name)
        assert is_searched(book, name)
        book.close()


def test_processes_that_add_at_once_lose_nothing(
    tmp_path: Path, postgres: PrivatePostgres, server: PrivateChroma
) -> None:
    store_url, ends = postgres.empty_database(), [(0, 60), (20, 80)]
    started = [process(tmp_path / "home", store_url, *first_last, server.url) for first_last in ends]
    results = [result_of(each) for each in started]
    assert sum(added for added, _, _ in results) == 80
    assert all(uses_index for _, uses_index, _ in results)
    book = Casebook(tmp_path / "home", store_url, lambda: None, server.url)  # type: ignore[arg-type,return-value]
    assert eventually(lambda: is_searched(book, "pay"))
    assert stored_vectors(book, "pay") == distinct_keys(book, "pay") == 80
    book.close()


def test_collections_that_are_deleted_while_it_serves_are_made_again(name: str, open_book: Open) -> None:
    book, other = open_book(), open_book()
    with_cases(book, name, table())
    assert is_searched(book, name)
    assert other._index.owned()
    other._index.drop(name, ["normal", "anomalous"])
    assert near(book, name, QUERY) == exactly(book, name)
    assert eventually(lambda: is_searched(book, name))
    assert near(book, name, QUERY) == exactly(book, name)


@pytest.mark.parametrize("comes_back", ["empty", "with what it had"])
def test_while_the_server_is_down_searches_are_exact_and_corrections_are_followed(
    name: str, open_book: Open, server: PrivateChroma, comes_back: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = with_cases(open_book(), name, table())
    assert is_searched(book, name)
    server.stop()
    try:
        assert near(book, name, QUERY) == exactly(book, name)
        book.relabel(name, row(1040.0, "xx"), "a person")
        assert near(book, name, payment(1040.0, "xx"), 1)[0][0] == "normal"
        corrected = near(book, name, QUERY)
        # one that starts meanwhile serves as well, and what cannot be done without the index says so
        late = open_book()
        assert near(late, name, QUERY) == corrected
        for needs_index in (late.rebuild, late.remove):
            with pytest.raises(StoreFailure, match="cannot be used"):
                needs_index(name)
    finally:
        server.start(empty=comes_back == "empty")
    for each in (book, late):
        assert eventually(lambda each=each: is_searched(each, name))  # type: ignore[misc]
        assert near(each, name, QUERY) == corrected == exactly(each, name)
    notices = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"source '{name}' are searched exactly until the index is usable again" in notices[0]
    assert len(notices) <= 4, "one for each loss"


def test_an_index_that_holds_other_keys_than_the_store_is_put_right_at_the_start(name: str, open_book: Open) -> None:
    """As many as there should be, but others: a copy from another time."""
    book = with_cases(open_book(), name, table())
    wrong = find(book, name, QUERY).nearest[0].case
    book._index.delete(name, wrong.label, [wrong.key])
    vector = book.matrix(book.source(name), wrong.label)[1][:1]  # type: ignore[arg-type]
    book._index.put(name, wrong.label, ["f" * 64], vector)
    late = open_book()
    assert near(late, name, QUERY) == exactly(late, name)
    assert eventually(lambda: is_searched(late, name))
    assert near(late, name, QUERY) == exactly(late, name)


def test_a_large_part_is_indexed_behind_the_back_of_searches(
    name: str, open_book: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.synced._AT_ONCE", 5)
    put = VectorIndex.put
    searched = threading.Event()
    monkeypatch.setattr(VectorIndex, "put", lambda *arguments: (searched.wait(30), put(*arguments)))
    book = open_book()
    book.add(name, table(), "file")
    assert near(book, name, QUERY) == exactly(book, name)
    assert not book._synced._synced[name][1]
    searched.set()
    assert eventually(lambda: is_searched(book, name))


def test_a_server_that_takes_connections_and_does_not_answer_holds_nobody_up(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_module, "_PROBE_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        book = Casebook(tmp_path, f"sqlite:///{tmp_path / 'p.db'}", lambda: None, url)  # type: ignore[arg-type,return-value]
        assert near(with_cases(book, name, table()), name, QUERY) == exactly(book, name)
        book.close()
