"""Errors of the rooms below become the tree's at each entry point, with hints on the command line only."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.errors import (
    EXPECTED,
    Busy,
    IndexMismatch,
    MissingPart,
    ModelUnavailable,
    UnknownSource,
    UnknownVerdict,
    describe,
    translate,
)
from llm.errors import EngineBusy, HashMismatch, ModelFailure
from retrieval.errors import EmbedderMismatch, EmbedderMissing, StoreFailure
from tests.conftest import Run


@pytest.mark.parametrize(
    ("foreign", "ours", "exit_code", "http_status"),
    [
        (EngineBusy, Busy, 1, 429),
        (ModelFailure, ModelUnavailable, 3, 503),
        (HashMismatch, ModelUnavailable, 3, 503),
        (EmbedderMissing, ModelUnavailable, 3, 503),
        (EmbedderMismatch, IndexMismatch, 3, 503),
        (StoreFailure, MissingPart, 3, 503),
    ],
)
def test_errors_of_the_rooms_below_are_translated(
    foreign: type[Exception], ours: type[Exception], exit_code: int, http_status: int
) -> None:
    assert issubclass(foreign, EXPECTED)
    error = translate(foreign("why"))
    assert type(error) is ours
    assert (str(error), error.exit_code, error.http_status) == ("why", exit_code, http_status)
    assert isinstance(error.__cause__, foreign)


def test_any_other_error_is_described_with_its_class() -> None:
    assert translate(ZeroDivisionError("by zero")) is None
    assert describe(ZeroDivisionError("by zero")) == "ZeroDivisionError: by zero"
    assert describe(StoreFailure("locked")) == "locked"


@pytest.mark.parametrize("kind", [ModelFailure, HashMismatch, EmbedderMismatch, StoreFailure])
def test_a_hint_is_kept_apart_from_the_message(kind: type[Exception]) -> None:
    error = kind("missing", "`make models` fetches it")
    translated = translate(error)
    assert translated is not None
    assert (str(translated), translated.hint, describe(error)) == ("missing", "`make models` fetches it", "missing")


@pytest.mark.parametrize("error", [UnknownSource("x", []), UnknownSource("x", ["a"]), UnknownVerdict("v1")])
def test_messages_name_no_command(error: Exception) -> None:
    assert "`" not in str(error)


def test_the_command_line_adds_the_hint(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("a\n")
    done = run("judge", log, "--source", "shop")
    assert done.code == 2
    assert done.err == (
        "error: unknown source 'shop'; known sources: none yet: "
        "`precedent learn FILE --source NAME --label COLUMN` creates one\n"
    )
    assert "`precedent judge --to jsonl`" in run("correct", "v000000000000", "normal").err


def test_a_store_that_cannot_be_opened_is_a_sentence_and_exit_3(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precedent.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    done = run("sources", "list")
    assert done.code == 3, done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
