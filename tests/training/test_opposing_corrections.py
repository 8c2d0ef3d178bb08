"""Corrections that oppose what others labelled wait for a second person; others do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.core.access import Caller, Role, calling_as
from agent.core.errors import Busy, Forbidden, UnknownHeldCorrection, UsageError
from agent.core.records import Label, Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.cases import list_cases, relabel_case, show_case
from agent.training.feedback import CorrectedCase, correct, undo_correction
from agent.training.held_corrections import confirm_held, list_held, reject_held, show_held
from agent.training.learn import as_case
from tests.conftest import make_settings

BAD = [f"fan {number} stopped" for number in range(4)]
ONCE = [
    "the kiln burst",
    "a violin broke",
    "tea was spilt",
    "one tram derailed",
    "the lift fell",
    "a lens cracked",
    "some milk soured",
    "the bridge swayed",
    "my clock stopped",
    "an owl fainted",
    "two ropes tore",
    "wine leaked",
    "his tooth ached",
    "a tyre burst",
    "the roof dripped",
    "her kite snapped",
    "snow melted",
    "a fuse blew",
    "the piano slid",
    "one candle died",
    "our ferry sank",
    "a mast bent",
]


@pytest.fixture
def context(tmp_path: Path, store_url: str) -> Iterator[AppContext]:
    chosen = make_settings(tmp_path / "home", model="none", correction_rate="100/hour", store=store_url)
    made = AppContext(chosen)
    for texts, label in (([*BAD, *ONCE], "anomalous"), ([f"job {number} is done" for number in range(4)], "normal")):
        made.casebook.add("s", [as_case(Record(text=text), label) for text in texts], "file")  # type: ignore[arg-type]
    made.casebook.sync("s")
    yield made
    made.close()


@contextmanager
def key(name: str, role: Role = Role.CORRECT) -> Iterator[None]:
    with calling_as(Caller(name, role)):
        yield


def corrected(context: AppContext, text: str, label: Label, by: str | None = "API") -> CorrectedCase:
    (verdict,) = judge_many(context, build(context), [Record(text=text)], "s", "none")
    assert isinstance(verdict, Verdict)
    return correct(context, verdict.id, label, by)


def cases_of(context: AppContext, label: Label) -> list[str]:
    return [str(case.case_id) for case in list_cases(context, "s", label, limit=100).cases]


def test_what_several_cases_of_others_oppose_waits(context: AppContext) -> None:
    with key("eve"):
        case = corrected(context, "fan 77 stopped", "normal")
        assert case.held is not None
        assert case.case_id is None
        assert case.held.reason == "4 records like it, labelled by others, are anomalous, and 0 normal"
        assert (case.held.held_by, case.held.label_before) == ("API key eve", "anomalous")
        # without a number, and in another wording
        assert corrected(context, "note: fan 8 stopped", "normal").held
        assert corrected(context, "job 77 is done", "anomalous").held, "the other way round"
        assert corrected(context, "fan 78 stopped", "anomalous").held is None, "it agrees"
        assert corrected(context, "an unheard of thing", "normal").held is None, "no case is like it"
    assert list_held(context, "s").total == 3
    assert cases_of(context, "normal")[1:] == cases_of(context, "normal")[-4:]


@pytest.mark.parametrize("caller", [None, Caller("root", Role.ADMIN)], ids=["no-key", "admin"])
def test_who_may_remove_the_source_needs_nobody(context: AppContext, caller: Caller | None) -> None:
    with calling_as(caller):
        assert corrected(context, "fan 77 stopped", "normal").held is None


def test_a_case_is_relabelled_by_the_same_rules(context: AppContext) -> None:
    fans = [case for case in cases_of(context, "anomalous") if "fan" in show_case(context, case).record.text]
    with key("eve"):
        case = relabel_case(context, fans[0], "normal", "API")
        assert case.held is not None
        assert (case.label, case.held.case_id, case.held.label_before) == ("anomalous", fans[0], "anomalous")
        assert relabel_case(context, fans[0], "anomalous", "API").held is None, "it is so already"
        (single, *_) = [case for case in cases_of(context, "anomalous") if case not in fans]
        assert relabel_case(context, single, "normal", "API").label == "normal", "a single mistake"
    with key("bob"):
        confirm_held(context, case.held.held_id, "API")
    assert show_case(context, fans[0]).label == "normal"


def test_ones_own_labels_are_nobodys_to_oppose(context: AppContext) -> None:
    with key("eve"):
        for number in range(3):
            corrected(context, f"kettle {number} whistles", "anomalous")
        assert corrected(context, "kettle 0 whistles", "normal").held is None
    with key("bob"):
        assert corrected(context, "kettle 2 whistles", "normal").held is None, "one against one"
    with key("carol"):
        assert corrected(context, "fan 77 stopped", "normal", "console").held, "none of hers"


def test_twenty_single_labels_of_others_an_hour(context: AppContext) -> None:
    with key("eve"):
        held = [corrected(context, text, "normal").held for text in ONCE]
        assert [each is not None for each in held] == [False] * 20 + [True] * 2
        assert held[-1] is not None
        assert held[-1].reason == "the key opposed labels of others 20 times within an hour"
    with key("bob"):
        assert corrected(context, "my clock stopped for good", "normal").held is None, "another key has its own"


def test_a_key_in_doubt_opposes_no_verdict(context: AppContext) -> None:
    with key("eve"):
        for number in range(5):
            assert corrected(context, f"fan {number} stopped", "normal").held
        (doubted,) = [corrected(context, ONCE[0], "normal").held]
        assert doubted is not None
        assert doubted.reason == "5 corrections with the key within an hour wait or were rejected"
        assert corrected(context, "a new thing altogether", "normal").held is None


def test_only_another_key_confirms(context: AppContext) -> None:
    with key("eve"):
        held = corrected(context, "fan 77 stopped", "normal").held
        assert held is not None
        with pytest.raises(Forbidden, match="a second person"):
            confirm_held(context, held.held_id, "console")
    with key("reader", Role.JUDGE), pytest.raises(Forbidden):
        confirm_held(context, held.held_id, "API")
    decided = confirm_held(context, held.held_id, "command line")
    assert (decided.decision, decided.decided_by) == ("confirmed", "command line")
    case = show_case(context, cases_of(context, "normal")[0])
    assert case.record.text == "fan 77 stopped"
    assert case.history[0].changed_by == "API key eve, confirmed by command line"
    assert context.history.corrected_to(str(held.verdict_id)) == "normal"
    for decide in (confirm_held, reject_held):
        with pytest.raises(UsageError, match="was confirmed by command line already"):
            decide(context, held.held_id, "command line")
    for unknown in ("h9", "h0", "c1", "h", "h\0", "h99999999999", "hé"):
        with pytest.raises(UnknownHeldCorrection):
            show_held(context, unknown)


def test_a_rejected_one_is_dropped(context: AppContext) -> None:
    with key("eve"):
        held = corrected(context, "fan 77 stopped", "normal").held
        assert held is not None
        assert reject_held(context, held.held_id, "API").decision == "rejected", "one's own too"
    assert list_held(context, "s").held == []
    assert len(cases_of(context, "normal")) == 4


def test_what_is_gone_can_only_be_rejected(context: AppContext) -> None:
    with key("eve"):
        held = corrected(context, "fan 77 stopped", "normal").held
    assert held is not None
    context.history.prune(max_rows=0)
    assert show_held(context, held.held_id).record is None
    with pytest.raises(UsageError, match="can only be rejected"):
        confirm_held(context, held.held_id, "command line")
    reject_held(context, held.held_id, "command line")


def test_what_others_labelled_is_not_undone_in_bulk(context: AppContext) -> None:
    changes = list[str]()
    with key("ada"):
        for text in ONCE:
            case = corrected(context, f"{text} near {text[::-1].replace(' ', '')}", "anomalous")
            changes.append(show_case(context, str(case.case_id)).history[-1].change_id)
    undone = 0
    with key("eve"):
        for change in changes:
            with suppress(Forbidden):
                undo_correction(context, change, "API")
                undone += 1
        with pytest.raises(Forbidden, match="a second person"):
            undo_correction(context, changes[-1], "API")
    assert undone <= 20
    with key("ada"):
        corrected(context, "her own thing", "anomalous")
        undo_correction(context, cases_of(context, "anomalous")[0], "API")


def test_a_key_makes_so_many_corrections_and_no_more(context: AppContext) -> None:
    with key("eve"):
        for number in range(100):
            corrected(context, "a bell rang", ("normal", "anomalous")[number % 2])
        with pytest.raises(Busy, match="at most 100/hour corrections") as refused:
            corrected(context, "a bell rang", "normal")
        assert refused.value.seconds >= 60
    with key("bob"):
        corrected(context, "a bell rang", "normal")
    with key("eve", Role.ADMIN):
        corrected(context, "a bell rang", "anomalous")


def test_removing_the_source_removes_them(context: AppContext) -> None:
    with key("eve"):
        corrected(context, "fan 77 stopped", "normal")
    context.casebook.remove("s")
    with pytest.raises(UnknownHeldCorrection):
        show_held(context, "h1")
