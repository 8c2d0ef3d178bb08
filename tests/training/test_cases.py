"""Single cases: what is listed, changed, deleted and undone, in the store, the index and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from agent.core.errors import UnknownCase, UnknownSource, UnknownVerdict, UsageError
from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_one
from agent.training.cases import delete_case, list_cases, relabel_case, show_case
from agent.training.feedback import correct, refit_source_if_due, undo_correction
from agent.training.learn import as_case
from agent.training.refit import refit
from retrieval.store.schema import cases
from tests.conftest import make_settings
from tests.retrieval.making import ANOMALOUS, NORMAL, lines

TEXT = NORMAL[0]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    made.casebook.add("log", lines(), "file test")
    made.casebook.sync("log")
    refit(made, "log")
    yield made
    made.close()


def id_of(context: AppContext, text: str) -> str:
    (case,) = [case for case in list_cases(context, "log").cases if case.record.text == text]
    assert case.case_id is not None
    return case.case_id


def precedents(context: AppContext, text: str) -> dict[str, tuple[str, float]]:
    """By the text of each precedent its label and similarity, as a verdict sees them now."""
    verdict = build(context).invoke(JudgeRequest(text=text, source="log"))
    return {near.text: (near.label, round(near.similarity, 4)) for near in verdict.precedents}


def test_cases_are_listed_newest_first_by_label_and_words(context: AppContext) -> None:
    page = list_cases(context, "log")
    assert page.total == len(page.cases) == len(NORMAL) + len(ANOMALOUS)
    assert [case.case_id for case in page.cases] == [f"c{number}" for number in range(page.total, 0, -1)]
    assert {case.given_by for case in page.cases} == {"file test"}
    assert list_cases(context, "log", "anomalous").total == len(ANOMALOUS)
    found = list_cases(context, None, text="DISK sector")
    assert [case.record.text for case in found.cases] == ["disk failure: sector cannot be read"]
    assert list_cases(context, "log", text="100%_").total == 0, "a wildcard of SQL is a character"
    part = list_cases(context, "log", limit=5, offset=10)
    assert (part.total, len(part.cases)) == (12, 2)


def test_a_relabelled_case_keeps_its_id_and_is_followed_by_verdicts(context: AppContext) -> None:
    case_id, version = id_of(context, TEXT), context.source("log").version
    case = relabel_case(context, case_id, "anomalous", "ada")
    assert (case.case_id, case.label, case.given_by) == (case_id, "anomalous", "ada")
    assert context.source("log").version == version + 1
    assert precedents(context, TEXT)[TEXT] == ("anomalous", 1.0)
    (change,) = show_case(context, case_id).history
    assert (change.action, change.label_before, change.label_after, change.changed_by) == (
        "relabelled",
        "normal",
        "anomalous",
        "ada",
    )
    assert change.changed_at.tzinfo is not None
    assert relabel_case(context, case_id, "anomalous").history == [change], "the same label changes nothing"


def test_a_deleted_case_is_gone_and_undo_brings_it_back_as_it_was(context: AppContext) -> None:
    case_id = id_of(context, TEXT)
    before, seen = show_case(context, case_id), precedents(context, TEXT)
    assert delete_case(context, case_id, "ada").record.text == TEXT
    assert TEXT not in precedents(context, TEXT)
    for gone in (show_case, delete_case):
        with pytest.raises(UnknownCase):
            gone(context, case_id)
    assert undo_correction(context, case_id, "ada").label_before == "normal"
    after = show_case(context, case_id)
    assert after.model_copy(update={"history": []}) == before
    assert [(change.action, change.undone) for change in after.history] == [("deleted", True), ("undone", False)]
    assert precedents(context, TEXT) == seen


def test_one_of_two_contradicting_cases_is_deleted_alone(context: AppContext) -> None:
    context.casebook.add("log", [as_case(Record(text=TEXT), "anomalous")], "file other")
    normal, anomalous = sorted(
        (case for case in list_cases(context, "log").cases if case.record.text == TEXT), key=lambda case: case.label
    )[::-1]
    assert (normal.label, anomalous.label) == ("normal", "anomalous")
    delete_case(context, str(anomalous.case_id))
    assert show_case(context, str(normal.case_id)).label == "normal"
    assert precedents(context, TEXT)[TEXT] == ("normal", 1.0)
    undo_correction(context, str(anomalous.case_id))
    assert show_case(context, str(anomalous.case_id)).given_by == "file other"
    relabel_case(context, str(anomalous.case_id), "normal")
    with pytest.raises(UnknownCase):
        show_case(context, str(normal.case_id))
    undo_correction(context, str(anomalous.case_id))
    assert {show_case(context, str(case.case_id)).label for case in (normal, anomalous)} == {"normal", "anomalous"}


def test_a_correction_is_undone_with_the_label_that_it_replaced(context: AppContext) -> None:
    verdict = judge_one(context, build(context), JudgeRequest(text=TEXT, source="log"))
    case_id = id_of(context, TEXT)
    assert correct(context, verdict.id, "anomalous", "chat").case_id == case_id
    assert correct(context, verdict.id, "normal").case_id == case_id
    assert context.history.corrected_to(verdict.id) == "normal"
    undo_correction(context, verdict.id)
    assert (context.history.corrected_to(verdict.id), show_case(context, case_id).label) == ("anomalous", "anomalous")
    undo_correction(context, verdict.id)
    assert (context.history.corrected_to(verdict.id), show_case(context, case_id).given_by) == (None, "file test")
    with pytest.raises(UsageError, match="no change of v"):
        undo_correction(context, verdict.id)


def test_a_correction_of_a_record_that_was_no_case_leaves_none(context: AppContext) -> None:
    verdict = judge_one(context, build(context), JudgeRequest(text="apples rolled down", source="log"))
    case_id = str(correct(context, verdict.id, "normal").case_id)
    assert "feedback on" in show_case(context, case_id).given_by
    assert undo_correction(context, case_id).label_before is None
    assert list_cases(context, "log", text="apples").total == 0
    assert "apples rolled down" not in precedents(context, "apples rolled down")


def test_what_was_changed_since_is_not_undone(context: AppContext) -> None:
    verdict = judge_one(context, build(context), JudgeRequest(text=TEXT, source="log"))
    case_id = str(correct(context, verdict.id, "anomalous").case_id)
    relabel_case(context, case_id, "normal", "ada")
    with pytest.raises(UsageError, match="changed again since"):
        undo_correction(context, verdict.id)
    undo_correction(context, case_id)
    undo_correction(context, verdict.id)
    assert show_case(context, case_id).label == "normal"


def test_the_id_of_a_removed_case_is_never_given_again(context: AppContext) -> None:
    newest = list_cases(context, "log").cases[0]
    delete_case(context, str(newest.case_id))
    context.casebook.add("log", [as_case(Record(text="a new case"), "normal")], "file test")
    added = id_of(context, "a new case")
    assert int(added[1:]) == int(str(newest.case_id)[1:]) + 1
    undo_correction(context, str(newest.case_id))
    assert id_of(context, newest.record.text) == newest.case_id
    verdict = judge_one(context, build(context), JudgeRequest(text="apples rolled down", source="log"))
    corrected = str(correct(context, verdict.id, "normal").case_id)
    undo_correction(context, corrected)
    context.casebook.add("log", [as_case(Record(text="one more"), "normal")], "file test")
    assert int(id_of(context, "one more")[1:]) == int(corrected[1:]) + 1
    context.casebook.remove("log")
    context.casebook.add("log", [as_case(Record(text="afresh"), "normal")], "file test")
    assert int(id_of(context, "afresh")[1:]) == int(corrected[1:]) + 2


def test_an_id_that_an_earlier_version_gave_again_is_not_overwritten_by_undo(context: AppContext) -> None:
    newest = id_of(context, ANOMALOUS[-1])
    delete_case(context, newest)
    context.casebook.add("log", [as_case(Record(text="a new case"), "normal")], "file test")
    with context.casebook.engine.begin() as connection:
        given_again = update(cases).where(cases.c.text == "a new case").values(id=int(newest[1:]))
        connection.execute(given_again)
    undo_correction(context, newest)
    assert (
        list_cases(context, "log", text=ANOMALOUS[-1]).total == list_cases(context, "log", text="a new case").total == 1
    )


def test_the_change_of_another_client_is_undone_by_its_own_id_only(context: AppContext) -> None:
    case_id = id_of(context, TEXT)
    relabel_case(context, case_id, "anomalous", "ada")
    verdict = judge_one(context, build(context), JudgeRequest(text=TEXT, source="log"))
    correct(context, verdict.id, "normal", "bob")
    for changed in (case_id, verdict.id):
        with pytest.raises(UsageError, match=rf"not by ada but by feedback on {verdict.id}, bob .*own id, u2,"):
            undo_correction(context, changed, "ada")
    assert show_case(context, case_id).label == "normal"
    with pytest.raises(UsageError, match="changed again since"):
        undo_correction(context, "u1", "ada")
    assert [change.change_id for change in show_case(context, case_id).history] == ["u1", "u2"]
    assert undo_correction(context, "u2", "ada").changed_by.endswith("bob")
    assert undo_correction(context, case_id, "ada").change_id == "u1"
    assert show_case(context, case_id).label == "normal"
    for done in ("u1", "u3"):
        with pytest.raises(UsageError, match=f"no change of {done} to undo"):
            undo_correction(context, done, "ada")


def test_changes_fit_the_source_anew_even_when_all_cases_are_gone(context: AppContext) -> None:
    fitted = []
    for case in list_cases(context, "log").cases:
        delete_case(context, str(case.case_id))
        fitted.append(refit_source_if_due(context, "log"))
    assert fitted == [0, 0, 0, 0, 5, 0, 0, 0, 0, 5, 0, 0]
    verdict = build(context).invoke(JudgeRequest(text=TEXT, source="log"))
    assert (verdict.label, verdict.precedents) == ("unsure", ())


@pytest.mark.parametrize(
    "case_id", ["", "c", "c0", "u", "u0", "u999", "c-1", "c999", "212", "v1", "c9999999999999999999", "c1 ", "c²", "cé"]
)
def test_an_unknown_case(context: AppContext, case_id: str) -> None:
    for ask in (show_case, delete_case, lambda c, i: relabel_case(c, i, "normal")):
        with pytest.raises(UnknownCase):
            ask(context, case_id)
    with pytest.raises(UsageError):
        undo_correction(context, case_id)


def test_an_unknown_source(context: AppContext) -> None:
    with pytest.raises(UnknownSource):
        list_cases(context, "nope")


@pytest.mark.parametrize("spelled", ["\ud800", "v\udcff", "c\0"])
def test_an_id_that_no_store_can_hold_is_unknown(context: AppContext, spelled: str) -> None:
    with pytest.raises(UnknownCase):
        show_case(context, spelled)
    with pytest.raises(UnknownVerdict):
        load_verdict(context, spelled)
    with pytest.raises(UsageError, match="no change"):
        undo_correction(context, spelled)
