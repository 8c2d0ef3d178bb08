"""Texts to windows of clauses, whatever separates the clauses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.clauses import Known, is_long, places, windows
from retrieval.text.masking import mask

NORMAL = "the nightly backup of all shops ended without any error and was copied to the archive"
FAULT = "pump seal ruptured"


@pytest.mark.parametrize(
    "text",
    [
        f"{NORMAL}. {FAULT}. {NORMAL}",
        f"{NORMAL}; {FAULT}; {NORMAL}",
        f'{NORMAL} "{FAULT}" {NORMAL}',
        f"{NORMAL} («{FAULT}»)",
        f"{NORMAL} 2026-01-02 03:04:05 {FAULT} 2026-01-02 03:04:06 {NORMAL}",
        f"{NORMAL}\n{FAULT}\n{NORMAL}",
        f"{NORMAL} pump seal\n    ruptured {NORMAL}",
        f"{NORMAL} {FAULT} {NORMAL}",
        f'{{"note":"{NORMAL}","message":"{FAULT}","more":["{NORMAL}"]}}',
        f"{FAULT} {NORMAL}",
        f"{NORMAL} {FAULT}",
        f"{NORMAL.upper()}! {FAULT}",
    ],
)
def test_what_no_normal_text_has_is_a_window_of_its_own(text: str) -> None:
    found = windows(mask(text), Known.of([mask(NORMAL)]))
    assert min((window for window in found if "seal" in window), key=len).strip('.;,!"') in (FAULT, f"message {FAULT}")
    assert not [window for window in found if window.casefold().strip(".;!,") in NORMAL]


@pytest.mark.parametrize("joined", [" ", ". ", "\n", ' "', " | "])
def test_known_text_has_no_windows_however_often_and_however_joined(joined: str) -> None:
    other = "user anna opened a session from the office in Graz"
    known = Known.of([mask(NORMAL), mask(other)])
    assert windows(mask(joined.join([NORMAL, other, other, NORMAL])), known) == []


def test_text_without_spaces_is_cut() -> None:
    padding, fault = "系统运行正常请求处理完成用户登录成功", "磁盘已满无法写入"
    found = windows(padding * 9 + fault + padding * 9, Known.of([padding * 2]))
    assert max(map(len, found)) <= 150
    assert any(fault in window and len(window) < 30 for window in found)
    assert max(map(len, windows("x" * 9_000))) <= 150


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_has_windows_made_of_its_words(text: str, normal: str) -> None:
    found = windows(text, Known.of([normal]))
    assert all(found)
    assert len(found) == len(set(found))
    squeezed = "".join(text.split())
    for window in found:
        assert all(word in squeezed for word in window.split())


def test_short_records_are_not_long() -> None:
    assert not is_long("ERROR: disk full")
    assert not is_long("<n> " * 100), "placeholders are no text"
    assert is_long(NORMAL * 2)


def test_an_anomalous_text_made_of_known_runs_is_no_known_text() -> None:
    normal = ["the pump was stopped by the crew at noon", "by the crew at noon the hall was cleaned"]
    fault = "the pump was stopped by the crew at noon the hall was cleaned"
    padded = f"{NORMAL} {fault} {NORMAL}"
    assert windows(padded, Known.of([NORMAL, *normal])) == []
    found = windows(padded, Known.of([NORMAL, *normal], [fault]))
    assert "".join(found).count("pump was stopped") >= 1
    assert windows(padded, Known.of([NORMAL, *normal, f"then {fault}"], [fault])) == [], "a normal text has it too"


def test_a_normal_text_of_few_words_is_known_among_others() -> None:
    known = Known.of(["generating core", "iar <hex> dear <hex>", NORMAL])
    assert windows(f"generating core generating core iar <hex> dear <hex> {NORMAL} generating core", known) == []
    assert windows(f"generating core {FAULT} generating core", known)[-1] == FAULT


def test_windows_end_where_known_text_begins() -> None:
    known = Known.of([NORMAL])
    found = windows(f"{NORMAL} {FAULT} {NORMAL}", known)
    assert found[-1] == FAULT
    assert not [window for window in found if window.startswith(FAULT) and window != FAULT]


@pytest.mark.parametrize("before", ["", "visitors had lunch in the canteen ", "<n> "])
@pytest.mark.parametrize("after", ["", " visitors went home at noon"])
def test_the_text_of_an_anomalous_case_is_found_without_any_mark(before: str, after: str) -> None:
    case = "kernel stopped for reason <n>"
    (place, *_) = places(f"{before}{case}{after}", Known.of([NORMAL], [case]))
    assert place.is_case
    assert place.windows == ("kernel stopped for reason",)
    assert case in place.records
    assert not any(place.is_case for place in places(f"then {case}{after}", Known.of([f"a {case}"], [case])))


def test_an_anomalous_entry_is_found_by_its_placeholders_too() -> None:
    normal, case = "<time> [<n>] redo done at <n> in all", "<time> [<n>] redo done at <hex> in all"
    text = f"{normal} {case} {normal}"
    assert places(text, Known.of([normal])) == []
    (place,) = places(text, Known.of([normal], [case]))
    assert place.is_case
    assert place.records == (case,)


def test_what_is_compared_as_a_record_keeps_its_placeholders() -> None:
    known = Known.of([NORMAL])
    (place, *_) = places(f"{NORMAL} {FAULT} <n> of <n> {NORMAL}", known)[1:]
    assert f"{FAULT} <n> of <n>" in place.records
    entry = "<time> pump seal ruptured at the dock, oil is lost"
    assert {place.records for place in places(f"{NORMAL} {entry} <time> {NORMAL}", known)} == {(entry,)}
