"""Several threads and several processes with one casebook: nothing lost, nothing twice, the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from retrieval.casebook import Casebook

from .conftest import Opener
from .making import distinct_keys, find, indexed, near, payment, row, stored_vectors, table, with_cases

ROOT = Path(__file__).resolve().parents[2]
ASKED = payment(1105.0, "xx")
# another process: adds rows first to last, two of three being those of its neighbour too, and says what it found
_PROCESS = """
import json, sys
from pathlib import Path
from retrieval.casebook import Casebook
from tests.retrieval.making import near, payment, row
home, store, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def none():
    raise AssertionError("fields need no embedding model")
book = Casebook(home, store, none, *sys.argv[5:])
added = 0
for start in range(first, last, 10):
    new = [row(float(i), "de" if i % 3 else "fr", "normal" if i % 4 else "anomalous") for i in range(start, start + 10)]
    added += book.add("pay", new, "file")
    book.sync("pay")
print(json.dumps([added, book._index.owned(), near(book, "pay", payment(1105.0, "xx"))]))
book.close()
"""


def process(home: Path, store: str, first: int, last: int, *chroma: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", _PROCESS, str(home), store, str(first), str(last), *chroma]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def result_of(started: subprocess.Popen[str]) -> tuple[int, bool, list[tuple[str, str, float]]]:
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    added, owned, neighbours = json.loads(out)
    return added, owned, [tuple(neighbour) for neighbour in neighbours]


def in_threads(work: list[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def run(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_another_process_finds_the_same_without_the_index(home: Path, store_url: str, book: Casebook) -> None:
    with_cases(book, "pay", table())
    added, owned, neighbours = result_of(process(home, store_url, 0, 0))
    assert (added, owned) == (0, False)
    assert neighbours == near(book, "pay", ASKED)


def test_processes_that_add_at_once_lose_nothing_and_count_nothing_twice(
    home: Path, store_url: str, open_book: Opener
) -> None:
    ranges = [(0, 300), (100, 400), (0, 400)]
    answers = [result_of(started) for started in [process(home, store_url, *ends) for ends in ranges]]
    book = open_book()
    assert len(book.cases("pay")) == 400
    assert sum(added for added, _, _ in answers) == 400, "each reports how many were new"
    find(book, "pay", ASKED)
    assert stored_vectors(book, "pay") == distinct_keys(book, "pay") == indexed(book, "pay") == 400


def test_the_first_case_decides_the_space_once(home: Path, open_book: Opener) -> None:
    """Two that begin a source at once must agree on its space, else their vectors have different axes."""
    first, second = open_book(), open_book()
    barrier = threading.Barrier(2)

    def begin(book: Casebook, start: int) -> Callable[[], None]:
        def work() -> None:
            book.create("pay")
            barrier.wait()
            book.add("pay", [row(float(i), "de" if i % 2 else "fr") for i in range(start, start + 50)], "file")

        return work

    in_threads([begin(first, 0), begin(second, 1_000)])
    for book in (first, second):
        book.sync("pay")
        read = book.source("pay")
        assert read is not None
        assert read.representation is not None
        assert read.representation.field_encoder is not None
        for label in ("normal",):
            _, matrix = book.matrix(read, label)
            assert matrix.shape == (100, read.representation.field_encoder.dimensions)


def test_threads_that_add_and_find_at_once_get_along(book: Casebook) -> None:
    with_cases(book, "pay", table())
    expected = near(book, "pay", payment(1000.0, "xx"), 1)[0]

    def adds(start: int) -> Callable[[], None]:
        def work() -> None:
            for i in range(start, start + 20):
                with_cases(book, "pay", [row(float(i), "it")])

        return work

    def finds() -> None:
        for _ in range(40):
            assert near(book, "pay", payment(1000.0, "xx"), 1)[0] == expected

    in_threads([adds(5_000), adds(5_010), finds, finds])
    assert len(book.cases("pay")) == 70
    assert stored_vectors(book, "pay") == distinct_keys(book, "pay") == indexed(book, "pay") == 70


def test_one_who_only_reads_sees_every_case_of_one_who_adds(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "pay", table())
    reader = open_book()
    for i in range(20):
        added = row(7_000.0 + i, "it", "anomalous")
        with_cases(book, "pay", [added])
        # all of them lie beyond what the first cases knew, at the same place
        nearest = find(reader, "pay", payment(7_000.0 + i, "it"), 1).nearest[0]
        assert (nearest.case.content_hash, round(nearest.similarity, 5)) == (added.content_hash, 1.0)
        assert not reader._index.owned()
