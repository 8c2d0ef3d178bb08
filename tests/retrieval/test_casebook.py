"""Cases are committed once, found again, corrected and forgotten: real SQLite, real MiniLM, real Chroma."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from agent.core.records import Record
from agent.training.learn import as_case
from retrieval.casebook import Casebook
from retrieval.encoding.text_embedder import Embedder
from retrieval.store.schema import cases, vectors, verdicts
from retrieval.types import LABELS

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
    stored_vectors,
    table,
    with_cases,
)


def version(book: Casebook, name: str = "log") -> int:
    row = book.source(name)
    assert row is not None
    return row.version


# adding


def test_the_same_record_is_one_case_in_one_file_and_across_files(book: Casebook) -> None:
    assert book.add("log", [line(NORMAL[0]), line(NORMAL[0]), line(NORMAL[1])], "file a") == 2
    assert book.add("log", [line(NORMAL[1]), line(NORMAL[2])], "file b") == 1
    assert [(case.text, case.given_by) for case in book.cases("log")] == [
        (NORMAL[0], "file a"),
        (NORMAL[1], "file a"),
        (NORMAL[2], "file b"),
    ]


def test_the_same_record_with_the_other_label_is_a_second_case(book: Casebook) -> None:
    assert book.add("log", [line(NORMAL[0]), line(NORMAL[0], "anomalous")], "file") == 2
    row = book.source("log")
    assert row is not None
    assert row.counts == {"normal": 1, "anomalous": 1}


def test_keys_are_counted_by_label_unless_they_have_both(book: Casebook) -> None:
    assert book.keys_by_label("log") == {"normal": 0, "anomalous": 0}
    book.add("log", [line(NORMAL[0]), line(NORMAL[1]), line(NORMAL[2]), line(ANOMALOUS[0], "anomalous")], "file")
    assert book.keys_by_label("log") == {"normal": 3, "anomalous": 1}
    book.add("log", [line(NORMAL[0], "anomalous")], "file")
    assert book.keys_by_label("log") == {"normal": 2, "anomalous": 1}


def test_the_version_counts_changes_only(book: Casebook) -> None:
    with_cases(book, "log", lines())
    before = version(book)
    with_cases(book, "log", lines())
    assert (book.add("log", [], "file"), version(book)) == (0, before)
    with_cases(book, "log", [line("something new")])
    assert version(book) == before + 1
    book.set("log", brief="a brief")
    find(book, "log", Record(text="whatever"))
    assert version(book) == before + 1


def test_content_that_comes_again_counts_as_often_as_it_came(book: Casebook) -> None:
    often = [line(NORMAL[0])] * 5 + [line(NORMAL[0], "anomalous")] * 2
    with_cases(book, "log", often)
    record = Record(text=NORMAL[0])
    assert find(book, "log", record).same_content == {"normal": 5, "anomalous": 2}
    assert find(book, "log", record).same_template == {"normal": 5, "anomalous": 2}
    before = version(book)
    with_cases(book, "log", often)
    assert find(book, "log", record).same_content == {"normal": 5, "anomalous": 2}
    assert version(book) == before
    # oftener elsewhere: that is what it counts for, whatever the batches
    assert book.add("log", [line(NORMAL[0])] * 2_500, "another file") == 0
    assert find(book, "log", record).same_content == {"normal": 2_500, "anomalous": 2}
    assert version(book) > before


def test_a_correction_counts_once_and_alone(book: Casebook) -> None:
    with_cases(book, "log", [line(NORMAL[0])] * 5)
    book.relabel("log", line(NORMAL[0], "anomalous"), "a person")
    assert find(book, "log", Record(text=NORMAL[0])).same_content == {"normal": 0, "anomalous": 1}


def test_many_cases_come_in_batches_and_none_is_lost(book: Casebook) -> None:
    new = table(4_500)
    assert book.add("pay", new + new, "file") == 4_500
    book.sync("pay")
    assert stored_vectors(book, "pay") == distinct_keys(book, "pay") == indexed(book, "pay") == 4_500


def test_templates_are_embedded_once(book: Casebook) -> None:
    with_cases(book, "log", [line(f"worker {i} is ready") for i in range(50)] + lines())
    assert len(book.cases("log")) == 62
    assert stored_vectors(book, "log") == distinct_keys(book, "log") == indexed(book, "log") == 13


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted"; DROP TABLE cases; -- %s :name {}',
        "a\x00b",
        "🙂 Ünïcödé 漢字 \u202e",
        "lone \udcff surrogate",
        "x" * 65_536,
        "long " * 10_000,
        "\r\n\t tab and\nnew line ",
        "12345",
    ],
)
def test_any_text_is_kept_and_found(book: Casebook, text: str) -> None:
    with_cases(book, "log", [*lines(), line(text, "anomalous")])
    record = Record(text=text)
    result = find(book, "log", record)
    assert result.same_content == {"normal": 0, "anomalous": 1}
    assert (result.nearest[0].case.text, result.nearest[0].similarity) == (record.text, pytest.approx(1.0, abs=1e-5))
    assert "\x00" not in result.nearest[0].case.text


@pytest.mark.parametrize("name", ["a", "a..b", "1.2.3", "A_b-c", "x" * 63])
def test_a_source_may_have_any_name_that_learn_takes(book: Casebook, name: str) -> None:
    with_cases(book, name, table())
    assert indexed(book, name) == 40
    assert near(book, name, payment(13.0, "de"), 1)[0][2] == 1.0
    book.remove(name)
    assert book.names() == []


def test_sources_do_not_see_each_other(book: Casebook) -> None:
    with_cases(book, "log", lines())
    with_cases(book, "log.normal", [line("quite another text")])
    assert {text for _, text, _ in near(book, "log.normal", Record(text=NORMAL[0]), 9)} == {"quite another text"}
    assert len(near(book, "log", Record(text=NORMAL[0]), 9)) == 12


# finding


def test_an_empty_casebook_finds_nothing(book: Casebook) -> None:
    nobody = find(book, "nobody", Record(text="x"))
    assert (nobody.nearest, nobody.same_template) == ((), {"normal": 0, "anomalous": 0})
    book.create("log")
    assert find(book, "log", Record(text="x")) == nobody


def test_it_counts_the_same_template_and_the_same_content(book: Casebook) -> None:
    with_cases(
        book,
        "log",
        [
            *lines(),
            *(line(f"worker {i} is late") for i in range(4)),
            line("worker 2 is late", "anomalous"),
        ],
    )
    result = find(book, "log", Record(text="worker 2 is late"))
    assert result.same_template == {"normal": 4, "anomalous": 1}
    assert result.same_content == {"normal": 1, "anomalous": 1}
    assert {near.case.text for near in result.nearest[:2]} == {"worker 2 is late"}, "the very record, not its eldest"
    unseen = find(book, "log", Record(text="worker 99 is late"))
    assert (unseen.same_template, unseen.same_content) == (result.same_template, {"normal": 0, "anomalous": 0})
    assert next(near.case.text for near in unseen.nearest if near.case.label == "normal") == "worker 0 is late"


def test_the_nearest_of_each_label_are_found_nearest_first(book: Casebook) -> None:
    with_cases(book, "log", lines())
    result = find(book, "log", Record(text="disk error: a sector is unreadable"), k=4)
    assert sorted(near.case.label for near in result.nearest) == ["anomalous"] * 4 + ["normal"] * 4
    assert result.nearest[0].case.text == ANOMALOUS[1]
    similarities = [near.similarity for near in result.nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert len({near.case.key for near in result.nearest}) == 8


def test_all_cases_are_found_if_there_are_fewer_than_k(book: Casebook) -> None:
    with_cases(book, "log", [line(NORMAL[0]), line(NORMAL[1])])
    assert [label for label, _, _ in near(book, "log", Record(text="x"), 32)] == ["normal", "normal"]


def test_rows_are_found_by_their_fields(book: Casebook) -> None:
    with_cases(book, "pay", table())
    label, text, similarity = near(book, "pay", payment(1201.0, "xx"), 2)[0]
    assert (label, text) == ("anomalous", "amount is 1200 country is xx")
    assert similarity > 0.99


def test_a_row_with_nothing_in_common_is_far_from_everything(book: Casebook) -> None:
    with_cases(book, "pay", table())
    result = find(book, "pay", Record(text="weather is fine", fields={"weather": "fine"}), 2)
    assert {near.similarity for near in result.nearest} == {0.0}


def test_the_same_question_has_the_same_answer(book: Casebook, open_book: Opener) -> None:
    with_cases(book, "log", lines())
    queries = [Record(text=text) for text in ("sector unreadable", "vacuum finished", "new")]
    first = [find(book, "log", record) for record in queries]
    find(book, "log", Record(text="something else in between"))
    assert [find(book, "log", record) for record in reversed(queries)] == first[::-1]
    book.close()
    assert [find(open_book(), "log", record) for record in queries] == first


def test_a_large_casebook_is_read_and_indexed_in_parts(
    book: Casebook, open_book: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.exact._READ", 3)
    monkeypatch.setattr("retrieval.index.indexing._CHUNK", 4)
    with_cases(book, "log", lines())
    row = book.source("log")
    assert row is not None
    for label in LABELS:
        keys, matrix = book.matrix(row, label)
        assert (len(keys), len(set(keys)), keys) == (len(matrix), len(matrix), sorted(keys))
        for key, vector in zip(keys, matrix, strict=True):
            assert book.nearest_keys(row, label, vector[None], 1) == [[key]]


# correcting and forgetting


def test_a_correction_replaces_the_other_label(book: Casebook) -> None:
    with_cases(book, "log", [*lines(), line("fan is slow"), line("fan is slow", "anomalous")])
    before = version(book)
    case_id = book.relabel("log", line("fan is slow", "anomalous"), "feedback on v1")
    book.sync("log")
    result = find(book, "log", Record(text="fan is slow"))
    assert result.same_content == result.same_template == {"normal": 0, "anomalous": 1}
    assert (result.nearest[0].case.case_id, result.nearest[0].case.given_by) == (case_id, "feedback on v1")
    assert version(book) == before + 1
    assert stored_vectors(book, "log") == distinct_keys(book, "log") == indexed(book, "log") == 13


def test_a_template_keeps_its_vector_while_another_case_has_it(book: Casebook) -> None:
    with_cases(book, "log", [*lines(), line("fan 1 is slow"), line("fan 2 is slow")])
    book.relabel("log", line("fan 1 is slow", "anomalous"), "feedback")
    result = find(book, "log", Record(text="fan 1 is slow"))
    assert result.same_template == {"normal": 1, "anomalous": 1}
    assert stored_vectors(book, "log") == indexed(book, "log") == 14
    book.relabel("log", line("fan 2 is slow", "anomalous"), "feedback")
    assert find(book, "log", Record(text="fan 1 is slow")).same_template == {"normal": 0, "anomalous": 2}
    assert stored_vectors(book, "log") == indexed(book, "log") == 13


def test_a_correction_may_be_the_first_case_of_a_source(book: Casebook) -> None:
    book.relabel("log", line("fan is slow", "anomalous"), "feedback")
    assert near(book, "log", Record(text="fan is slow")) == [("anomalous", "fan is slow", 1.0)]


def test_who_gave_a_label_may_have_a_long_name(book: Casebook) -> None:
    path = "file " + "/a very long folder" * 20
    book.add("log", [line("x")], path)
    assert book.cases("log")[0].given_by == path
    assert cases.c.given_by.type.length is None, "PostgreSQL holds to the length of a column"


def test_a_removed_source_is_gone_with_everything(book: Casebook) -> None:
    with_cases(book, "log", lines())
    with_cases(book, "pay", table())
    book.remove("log")
    assert book.names() == ["pay"]
    assert book.source("log") is None
    with book.engine.connect() as connection:
        for store in (cases, vectors, verdicts):
            assert not connection.scalar(select(func.count()).where(store.c.source == "log"))
    assert find(book, "log", Record(text=NORMAL[0])).nearest == ()
    with_cases(book, "log", [line("a new beginning")])
    assert near(book, "log", Record(text=NORMAL[0]), 9)[0][1] == "a new beginning"
    assert indexed(book, "log") == 1


def test_what_was_set_is_read_back(book: Casebook) -> None:
    with_cases(book, "log", lines())
    book.set(
        "log", brief="b", brief_by="person", reading={"label": "0"}, source_model={"templates": 1}, models=b"\x00m"
    )
    row = book.source("log")
    assert row is not None
    assert (row.brief, row.brief_by, row.reading, row.source_model) == ("b", "person", {"label": "0"}, {"templates": 1})
    assert row.counts == {"normal": 6, "anomalous": 6}
    assert book.models("log") == b"\x00m"
    assert book.hashes_of_cases("log", {line(NORMAL[0]).content_hash, "0" * 64}) == {line(NORMAL[0]).content_hash}
    assert book.hashes_of_cases("log", []) == set()


def test_every_change_of_a_source_has_a_revision_of_its_own(book: Casebook, open_book: Opener) -> None:
    """The revision is all that caches compare."""
    reader, seen = open_book(), list[int]()

    def changed() -> bool:
        snapshot, other = book.source("log"), reader.source("log")
        assert snapshot is not None
        assert snapshot == other
        seen.append(snapshot.revision)
        return seen.count(snapshot.revision) == 1

    book.create("log")
    assert changed()
    book.add("log", lines(), "file")
    assert changed()
    book.sync("log")
    assert changed(), "the embedding model is noted down"
    for values in ({"brief": "b"}, {"reading": {"label": "0"}}, {"source_model": {"templates": 1}}, {"models": b"m"}):
        book.set("log", **values)
        assert changed(), values
    book.relabel("log", line(NORMAL[0], "anomalous"), "feedback")
    assert changed()
    book.rebuild("log")
    assert changed()
    find(book, "log", Record(text="whatever"))
    assert not changed(), "reading changes nothing"
    assert book.source("log") is book.source("log"), "it is read once"


def test_a_source_that_is_created_again_has_another_revision(book: Casebook) -> None:
    book.create("log")
    first = book.source("log")
    book.remove("log")
    book.create("log")
    assert first is not None
    assert book.source("log") != first


def test_the_index_is_in_the_data_directory(home: Path, book: Casebook) -> None:
    with_cases(book, "log", [line("x")])
    assert (home / "index").is_dir()


@pytest.mark.parametrize("equals", [5, 60])
def test_of_equally_near_cases_the_same_are_found_in_every_process(
    tmp_path: Path, embedder: Embedder, equals: int
) -> None:
    """An index returns equals in the order in which it was built; `equals` of 60 exceed its candidates."""
    sessions = [as_case(Record(text=f"session {i}", events=("open", "read", "close")), "normal") for i in range(equals)]
    sessions += [as_case(Record(text=f"other {i}", events=("open",) * (i + 2)), "normal") for i in range(40)]
    record, results = Record(text="a session", events=("open", "read", "read", "close")), []
    for order in (sessions, sessions[::-1]):
        home = tmp_path / str(len(results))
        book, reader = (Casebook(home, f"sqlite:///{home / 'p.db'}", lambda: embedder) for _ in range(2))
        book.create("s")
        with_cases(book, "s", order)
        for opened in (book, reader):
            results.append([near.case.text for near in find(opened, "s", record, 3).nearest])
        assert (book._index.owned(), reader._index.owned()) == (True, False)
        book.close()
        reader.close()
    assert results == [results[0]] * 4
    assert all(text.startswith("session") for text in results[0])


def test_the_record_s_own_template_comes_first_among_equals(book: Casebook) -> None:
    sessions = [as_case(Record(text=f"session {i}", events=("open", "read", "close")), "normal") for i in range(30)]
    with_cases(book, "s", sessions)
    for case in sessions[::7]:
        record = Record(text=case.record.text, events=case.record.events)
        assert find(book, "s", record, 3).nearest[0].case.text == record.text
