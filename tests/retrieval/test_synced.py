"""The vector index can be lost, stale or damaged: it is made again from the store and finds what exact search does."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, update

from agent.core.records import Record
from retrieval.casebook import Casebook
from retrieval.encoding.text_embedder import Embedder
from retrieval.errors import EmbedderMismatch, StoreFailure
from retrieval.index.chroma import VectorIndex
from retrieval.store.schema import vectors
from tests.served import eventually

from .conftest import Opener
from .making import (
    ANOMALOUS,
    NORMAL,
    distinct_keys,
    find,
    indexed,
    line,
    lines,
    near,
    payment,
    row,
    stored_vectors,
    table,
    with_cases,
)

ASKED = payment(1105.0, "xx")


@pytest.fixture
def expected(book: Casebook) -> list[tuple[str, str, float]]:
    """What is found on `ASKED` in the table, which is learned and closed."""
    neighbours = near(with_cases(book, "pay", table()), "pay", ASKED)
    assert len(neighbours) == 6
    book.close()
    return neighbours


def whole(book: Casebook) -> bool:
    return stored_vectors(book, "pay") == distinct_keys(book, "pay") == indexed(book, "pay") == 40


# lost, stale, damaged


@pytest.mark.parametrize("rest", ["nothing", "an empty database", "no segments", "damaged segments"])
def test_a_lost_index_is_made_again(
    home: Path, expected: list[tuple[str, str, float]], open_book: Opener, rest: str
) -> None:
    index = home / "index"
    if rest == "nothing":
        shutil.rmtree(index)
    elif rest == "an empty database":
        (index / "chroma.sqlite3").write_bytes(b"")
    for segment in [path for path in index.glob("*") if path.is_dir()]:
        if rest == "no segments":
            shutil.rmtree(segment)
        elif rest == "damaged segments":
            for file in segment.iterdir():
                file.write_bytes(os.urandom(64))
    book = open_book()
    assert near(book, "pay", ASKED) == expected
    assert whole(book)


@pytest.mark.parametrize("sealed", [True, False])
def test_an_index_that_cannot_be_opened_is_made_again(
    home: Path,
    expected: list[tuple[str, str, float]],
    open_book: Opener,
    caplog: pytest.LogCaptureFixture,
    sealed: bool,
) -> None:
    (home / "index" / "chroma.sqlite3").write_bytes(os.urandom(5_000))
    if not sealed:
        # as after a process that was killed
        (home / "index.seal").unlink()
    book = open_book()
    assert near(book, "pay", ASKED) == expected
    assert eventually(lambda: whole(book))
    assert near(book, "pay", ASKED) == expected
    assert f"{home / 'index'}" in caplog.text


def test_missing_and_extra_vectors_are_put_right(expected: list[tuple[str, str, float]], open_book: Opener) -> None:
    book = open_book()
    removed = find(book, "pay", ASKED).nearest[0].case
    book._index.delete("pay", removed.label, [removed.key])
    book._index.put("pay", "normal", ["f" * 64], np.ones((1, 6), np.float32))
    book.close()
    book = open_book()
    assert near(book, "pay", ASKED) == expected
    assert whole(book)


@pytest.mark.parametrize("held", ["another key", "another vector"])
def test_what_an_index_holds_that_was_not_closed_is_compared_with_the_store(
    home: Path, expected: list[tuple[str, str, float]], open_book: Opener, held: str
) -> None:
    book = open_book()
    nearest = find(book, "pay", ASKED).nearest[0].case
    opposite = -np.ones((1, 6), np.float32)
    if held == "another key":
        book._index.delete("pay", nearest.label, [nearest.key])
        book._index.put("pay", nearest.label, ["f" * 64], opposite)
    else:
        book._index.put("pay", nearest.label, [nearest.key], opposite)
    book.close()
    (home / "index.seal").unlink()
    book = open_book()
    assert near(book, "pay", ASKED) == expected
    assert whole(book)


def test_vectors_lost_from_the_store_are_made_again(expected: list[tuple[str, str, float]], open_book: Opener) -> None:
    book = open_book()
    with book.engine.begin() as connection:
        connection.execute(delete(vectors).where(vectors.c.label == "anomalous"))
    assert near(book, "pay", ASKED) == expected
    assert whole(book)


def test_what_was_put_into_the_index_but_not_marked_is_no_harm(
    expected: list[tuple[str, str, float]], open_book: Opener
) -> None:
    book = open_book()
    with book.engine.begin() as connection:
        connection.execute(update(vectors).values(indexed=False))
    assert near(book, "pay", ASKED) == expected
    assert whole(book)


def test_a_rebuild_of_the_index_that_was_interrupted_is_begun_again(
    expected: list[tuple[str, str, float]], open_book: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = open_book()
    late = [row(2.0, "it"), row(1.0, "it")]
    book.add("pay", late, "file")
    assert book._index.owned()
    book._index.drop("pay", ["normal"])
    put = VectorIndex.put

    def dies(self: VectorIndex, source: str, label: str, keys: list[str], matrix: np.ndarray) -> None:
        # as many as were indexed before, but others: counting must not be taken in
        put(self, source, label, keys[::-1][: len(keys) - len(late)], matrix[::-1][: len(keys) - len(late)])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "put", dies)
        with pytest.raises(KeyboardInterrupt):
            book.sync("pay")
    book.close()
    book = open_book()
    book.sync("pay")
    assert stored_vectors(book, "pay") == indexed(book, "pay") == 42
    for case in book.cases("pay"):
        neighbours = find(book, "pay", Record(text=case.text, fields=case.fields)).nearest
        assert case.key in {near.case.key for near in neighbours}


def test_rebuild_makes_keys_and_space_anew(book: Casebook) -> None:
    """A source that grew from one case has a space that knows one value; rebuilding looks at all cases."""
    with_cases(book, "pay", [row(13.0, "fr")])
    with_cases(book, "pay", table())
    before = book.source("pay")
    book.rebuild("pay")
    after = book.source("pay")
    assert before is not None
    assert after is not None
    assert before.representation is not None
    assert after.representation is not None
    assert before.representation.field_encoder is not None
    assert after.representation.field_encoder is not None
    assert (before.representation.field_encoder.fitted_on, after.representation.field_encoder.fitted_on) == (
        1,
        len(book.cases("pay")),
    )
    assert stored_vectors(book, "pay") == distinct_keys(book, "pay") == indexed(book, "pay") == 41
    assert near(book, "pay", ASKED, 1)[0][0] == "anomalous"


# another embedding model


def test_another_embedding_model_is_refused_until_rebuilt(
    book: Casebook, open_book: Opener, embedder: Embedder, tmp_path: Path
) -> None:
    with_cases(book, "log", lines())
    with_cases(book, "pay", table())
    expected = near(book, "log", Record(text="sector unreadable"))
    book.close()
    folder = tmp_path / "other-model"
    shutil.copytree(embedder.folder, folder)
    config = folder / "sentence_bert_config.json"
    config.write_text(config.read_text() + "\n")
    other = open_book(Embedder(folder))
    with pytest.raises(EmbedderMismatch, match="source 'log' were made by another embedding model"):
        find(other, "log", Record(text="sector unreadable"))
    other.add("log", [line("one more")], "file")
    with pytest.raises(EmbedderMismatch):
        other.sync("log")
    assert near(other, "pay", ASKED), "fields need no embedding model"
    other.rebuild("log")
    neighbours = near(other, "log", Record(text="sector unreadable"))
    assert neighbours[0] == expected[0]
    assert stored_vectors(other, "log") == indexed(other, "log") == 13
    other.close()
    with pytest.raises(EmbedderMismatch):
        find(open_book(), "log", Record(text="x"))


# Chroma and exact search


def test_chroma_finds_what_exact_search_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    # clustered, as templates are
    centres = random.normal(size=(60, 384))
    matrix = (centres[random.integers(60, size=3_000)] + 0.5 * random.normal(size=(3_000, 384))).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    keys = [f"k{i}" for i in range(len(matrix))]
    index = VectorIndex(tmp_path / "index")
    assert index.owned()
    index.put("s", "normal", keys, matrix)
    queries = matrix[:100] + 0.01 * random.normal(size=(100, 384)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    hits = 0
    together = index.nearest("s", "normal", queries, 8)
    for vector, (nearest, distances) in zip(queries, together, strict=True):
        exact = [keys[i] for i in np.argsort(-(matrix @ vector))[:8]]
        hits += len(set(exact) & set(nearest))
        assert distances == pytest.approx([1 - matrix[int(key[1:])] @ vector for key in nearest], abs=1e-5)
        assert index.nearest("s", "normal", vector[None], 8)[0][0] == nearest, "alone as together"
        assert index.nearest("s", "normal", vector[None], 1)[0][0] == exact[:1]
    index.close()
    assert hits / 800 > 0.98


def test_similarities_are_the_same_with_and_without_chroma(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "log", lines())
    with_cases(book, "pay", table())
    second = open_book()
    queries = (("log", Record(text="a sector is unreadable")), ("log", Record(text="?")), ("pay", ASKED))
    for name, record in queries:
        with_chroma, without = find(book, name, record), find(second, name, record)
        assert second._index.owned() is False
        assert with_chroma == without


# who owns the index


def test_the_second_learns_and_the_owner_finds_it(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "log", lines())
    second = open_book()
    with_cases(second, "log", [line("fan 1 is slow", "anomalous")])
    assert not second._index.owned()
    assert near(second, "log", Record(text="fan 2 is slow"), 1)[0][:2] == ("anomalous", "fan 1 is slow")
    assert near(book, "log", Record(text="fan 2 is slow"), 1)[0][:2] == ("anomalous", "fan 1 is slow")
    assert indexed(book, "log") == 13


def test_the_second_corrects_and_the_owner_notices(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "log", [*lines(), line("fan is slow")])
    second = open_book()
    second.relabel("log", line("fan is slow", "anomalous"), "feedback")
    for reader in (second, book):
        assert near(reader, "log", Record(text="fan is slow"), 1)[0] == ("anomalous", "fan is slow", 1.0)
    assert indexed(book, "log") == 13


def test_the_index_goes_to_the_second_when_the_first_has_closed(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "log", lines())
    second = open_book()
    # learned while another owns the index, so not in it
    with_cases(second, "log", [line("fan 1 is slow", "anomalous")])
    book.close()
    assert near(second, "log", Record(text="fan 2 is slow"), 1)[0][:2] == ("anomalous", "fan 1 is slow")
    assert indexed(second, "log") == 13


def test_what_another_process_set_is_noticed(book: Casebook, open_book: Opener) -> None:
    """A server must judge by the judge that `learn` has just fitted, though the version is the one it knows."""
    with_cases(book, "log", lines())
    book.set("log", source_model={"fitted": 1})
    second = open_book()
    second.source("log")
    book.set("log", source_model={"fitted": 2})
    seen = second.source("log")
    assert seen is not None
    assert seen.source_model == {"fitted": 2}


def test_only_the_owner_may_remove_and_rebuild(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "pay", table())
    second = open_book()
    for forbidden in (second.remove, second.rebuild):
        with pytest.raises(StoreFailure, match="another Precedent process"):
            forbidden("pay")
    assert whole(book)


def test_the_lock_is_the_process_s_whichever_thread_took_it(home: Path) -> None:
    first, second = VectorIndex(home / "index"), VectorIndex(home / "index")
    thread = threading.Thread(target=first.owned)
    thread.start()
    thread.join()
    assert first.owned()
    assert not second.owned()
    first.close()
    assert second.owned()
    second.close()
    second.close()


def test_texts_of_both_labels_are_in_their_own_collections(book: Casebook) -> None:
    with_cases(book, "log", lines())
    texts = {"normal": NORMAL, "anomalous": ANOMALOUS}
    for case in book.cases("log"):
        assert case.text in texts[case.label]
        vector = book.matrix(book.source("log"), case.label)  # type: ignore[arg-type]
        assert case.key in vector[0]


def test_an_error_of_chroma_is_a_store_failure(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path / "index")
    assert index.owned()
    index.put("s", "normal", ["a"], np.ones((1, 6), np.float32))
    for failing in (
        lambda: index.put("s", "normal", ["b"], np.ones((1, 7), np.float32)),
        lambda: index.nearest("s", "normal", np.ones((1, 7), np.float32), 1),
    ):
        with pytest.raises(StoreFailure, match=r"vector index .* cannot be used .*dimension"):
            failing()
    index.close()


def test_what_needs_a_server_that_does_not_answer_is_a_store_failure(tmp_path: Path) -> None:
    book = Casebook(tmp_path, f"sqlite:///{tmp_path / 'p.db'}", lambda: None, "http://127.0.0.1:9")  # type: ignore[arg-type,return-value]
    book.add("pay", table(), "file")
    book.sync("pay")
    for using in (book.rebuild, book.remove):
        with pytest.raises(StoreFailure, match=r"http://127\.0\.0\.1:9 cannot be used"):
            using("pay")
    book.close()


def test_a_small_source_is_searched_without_the_index(
    expected: list[tuple[str, str, float]], open_book: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.synced._SMALL", 40)
    book = open_book()
    assert near(book, "pay", ASKED) == expected
    assert not book._index.locked, "another process may have it"
    book.relabel("pay", row(1040.0, "xx"), "a person")
    assert near(book, "pay", payment(1040.0, "xx"), 1)[0][0] == "normal"
    book.add("pay", [row(1.5, "it")], "file")
    find(book, "pay", ASKED)
    assert stored_vectors(book, "pay") == indexed(book, "pay") == 41, "it has grown"
