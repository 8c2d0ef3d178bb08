"""A source is copied up to a moment, and a fit that was made of the copy is published at once or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retrieval.casebook import Casebook
from retrieval.store.copying import (
    copy_later_cases,
    copy_source,
    given_since,
    newest_given_at,
    occurrences_by_key,
    relabelled_since,
    sample_of_cases,
)
from retrieval.store.fits import Fit, Fits
from tests.private_postgres import PrivatePostgres

from .making import distinct_keys, line, lines, stored_vectors, table, with_cases


def test_a_source_is_copied_and_a_fit_of_the_copy_published(book: Casebook, tmp_path: Path) -> None:
    with_cases(book, "log", table())
    until = newest_given_at(book.engine, "log")
    assert until is not None
    with_cases(book, "log", table(44)[40:])
    book.relabel("log", table()[0], "a person")
    assert [case.content_hash for case, _ in given_since(book.engine, "log", until)] == [
        case.content_hash for case in [*table(44)[40:], table()[0]]
    ]
    assert relabelled_since(book.engine, "log", until) == {table()[0].content_hash}
    assert len(sample_of_cases(book.engine, "log", 10)) in range(9, 13)
    assert sum(occurrences_by_key(book.engine, "log").values()) == 44

    copy = Casebook(tmp_path / "copy", f"sqlite:///{tmp_path / 'copy.db'}", lambda: None)  # type: ignore[arg-type,return-value]
    copy_source(book.engine, copy.engine, "log", until)
    # the case that was relabelled is newer
    assert len(copy.cases("log")) == 39 == stored_vectors(copy, "log") == distinct_keys(copy, "log")
    copy_later_cases(book.engine, copy.engine, "log", until)
    assert sorted(map(repr, copy.cases("log"))) == sorted(map(repr, book.cases("log")))

    fits = Fits(book.engine)
    book.set("log", source_model={"templates": 1, "fitted_on": 1}, models=b"old")
    champion = fits.current("log")
    assert champion is not None
    version = getattr(book.source("log"), "version", 0)
    new = replace(champion, source_model={"templates": 2}, models=b"new")
    assert fits.publish("log", new, champion, version, book.cases) == []
    present, earlier = fits.current("log"), fits.earlier("log")
    assert present is not None
    assert earlier is not None
    assert (present.source_model, present.models) == ({"templates": 2, "fitted_on": version}, b"new")
    assert (earlier.source_model, earlier.models) == (champion.source_model, b"old")
    assert fits.publish("log", new, champion, version, book.cases) is None, "the champion is not there any more"
    assert fits.current("log") == present
    fits.note("log", champion, challenged_on=7)
    assert fits.current("log") == present
    fits.note("log", present, challenged_on=7)
    assert getattr(fits.current("log"), "source_model", {})["challenged_on"] == 7
    copy.close()


def test_a_source_that_was_copied_to_another_store_grows_there(
    book: Casebook, tmp_path: Path, postgres: PrivatePostgres
) -> None:
    """As when a store moves to a server; PostgreSQL counts ids on its own."""
    with_cases(book, "log", table())
    moved = Casebook(tmp_path / "moved", postgres.empty_database(), lambda: None)  # type: ignore[arg-type,return-value]
    copy_source(book.engine, moved.engine, "log")
    assert moved.relabel("log", table(44)[43], "a person") == "c41"
    moved.close()


def test_other_masking_changes_the_keys_with_the_fit(book: Casebook) -> None:
    with_cases(book, "log", [*lines(), line("job 1 ended with code 0"), line("job 1 ended with code 7", "anomalous")])
    fits = Fits(book.engine)
    book.set("log", source_model={"templates": 1}, models=b"old")
    champion, row = fits.current("log"), book.source("log")
    assert champion is not None
    assert row is not None
    assert row.representation is not None
    kept = {**row.representation.to_json(), "kept": [["job <num> ended with code", ["0", "7"]]]}
    new = Fit({"templates": 2}, b"new", kept, champion.embedder)
    orphans = fits.publish("log", new, champion, row.version, book.cases)
    changed = book.source("log")
    assert changed is not None
    assert changed.representation is not None
    assert changed.representation.to_json() == kept
    assert orphans is not None
    assert changed.version == row.version + 1
    assert (changed.source_model or {})["fitted_on"] == changed.version
