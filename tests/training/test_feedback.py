"""Corrections fit the judge anew when they are enough, never twice at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training import refit as refit_module
from agent.training.feedback import correct, refit_due, refit_if_due
from agent.training.fit import fit_source
from agent.training.learn import as_case
from agent.training.refit import refit, refit_while_due
from retrieval.casebook import SourceSnapshot
from tests.conftest import make_settings
from tests.retrieval.making import lines

NEW = ("robot stands still", "apples rolled down", "a ship left port", "the choir sang", "snow fell", "a dog barked")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    made.casebook.add("log", lines(), "file test")
    made.casebook.sync("log")
    refit(made, "log")
    yield made
    made.close()


def verdicts(context: AppContext) -> list[Verdict]:
    answers = judge_many(context, build(context), [Record(text=text) for text in NEW], "log")
    return [answer for answer in answers if isinstance(answer, Verdict)]


def fitted_on(context: AppContext) -> int:
    judge = context.source("log").source_model
    assert judge is not None
    return int(judge["fitted_on"])


def test_the_fifth_correction_fits_the_judge_anew(context: AppContext) -> None:
    before, fitted = fitted_on(context), []
    for verdict in verdicts(context):
        correct(context, verdict.id, "normal")
        fitted.append(refit_if_due(context, verdict.id))
    assert fitted == [0, 0, 0, 0, 5, 0]
    assert fitted_on(context) == before + 5
    assert context.source("log").version == before + 6
    assert context.source("log").source_model["templates"] == 17  # type: ignore[index]


@pytest.mark.parametrize(
    ("cases", "corrections", "due"), [(100, 4, False), (100, 5, True), (1000, 19, False), (1000, 20, True)]
)
def test_two_percent_of_the_cases_but_at_least_five(
    context: AppContext, cases: int, corrections: int, due: bool
) -> None:
    row = replace(context.source("log"), counts={"normal": cases, "anomalous": 0}, version=7 + corrections)
    assert refit_due(replace(row, source_model={"fitted_on": 7})) is due


def test_cases_that_were_never_fitted_are_due(context: AppContext) -> None:
    row = context.source("log")
    assert refit_due(replace(row, source_model=None))
    assert not refit_due(replace(row, source_model=None, counts={"normal": 0, "anomalous": 0}))


def test_of_fits_at_once_one_does_the_work_of_all(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one fit runs, a new case arrives and another asks: it does not wait, and the first fits once more."""
    running, may_end, fits = threading.Event(), threading.Event(), list[int]()

    def slowly(*arguments: object, **options: object) -> object:
        fits.append(context.source("log").version)
        judge = fit_source(*arguments, **options)  # type: ignore[arg-type]
        running.set()
        assert may_end.wait(30)
        return judge

    def add(text: str) -> None:
        context.casebook.add("log", [as_case(Record(text=text), "normal")], "file test")
        context.casebook.sync("log")

    monkeypatch.setattr(refit_module, "fit_source", slowly)
    add("a first new case")
    first = threading.Thread(target=refit_while_due, args=(context, "log"))
    first.start()
    assert running.wait(30)
    add("a second new case")
    assert refit_while_due(context, "log") is False
    may_end.set()
    first.join(30)
    version = context.source("log").version
    assert fits == [version - 1, version]
    assert fitted_on(context) == version


def test_verdicts_follow_the_new_fit_whatever_was_cached(context: AppContext) -> None:
    """A verdict given between a correction and the fit leaves nothing behind that the next one is made of."""
    chain, record = build(context), Record(text="a heron stands in the pond")
    for verdict in verdicts(context)[:5]:
        correct(context, verdict.id, "normal")
    # without the language model: degraded evidence is not cached
    context.casebook.set("log", source_model={**(context.source("log").source_model or {}), "language_auc": 0.5})
    assert chain.invoke(JudgeRequest.about(record, "log")).degraded == ()
    assert refit_while_due(context, "log")
    again, fresh = (runnable.invoke(JudgeRequest.about(record, "log")) for runnable in (chain, build(context)))
    assert (again.probability, again.signals) == (fresh.probability, fresh.signals)


def test_a_case_that_comes_in_during_a_fit_does_not_break_it(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    casebook = context.casebook
    matrix = casebook.matrix

    def meanwhile(row: SourceSnapshot, label: str) -> object:
        casebook.add("log", [as_case(Record(text=f"came in late, {label}"), "normal")], "file test")
        casebook.sync("log")
        return matrix(row, label)

    monkeypatch.setattr(casebook, "matrix", meanwhile)
    refit(context, "log")
    assert fitted_on(context) < context.source("log").version
