"""What `learn` reports about the language model, and what the fit makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.core.records import Record
from agent.data.read_options import ReadOptions
from agent.detectors.language import LanguageDetector
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.scoring.fusion import SourceModel
from agent.training.learn import LearnResult, learn
from agent.training.reading_report import probable_labels
from llm.errors import ModelFailure
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store
from tests.conftest import make_settings
from tests.training.test_prompt_selection import Answer, Played

SMS = ReadOptions(label="label", text=("text",))


class ContextWith(AppContext):
    """The real context, but for the language model."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        super().__init__(make_settings(folder / "home"))
        cache = LLMCache(open_store(f"sqlite:///{folder / 'answers.db'}"))
        self._detector = LanguageDetector(Played(answer), cache, 1024)

    def plain_detector(self) -> LanguageDetector:
        return self._detector


PLACES = ("home", "school", "the station", "the market", "work", "the garden", "the lake", "church", "town", "the gym")
WHO = ("children", "dog")
NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn")
HAM = [f"{name} comes back from {place} with the children" for name in NAMES for place in PLACES]
SPAM = [f"WIN a holiday at {place} NOW call our free line, {name}" for name in NAMES[:2] for place in PLACES]


# no detector of texts can know these labels
GUESTS = [f"{name} comes back from {place} with the {who}" for name in NAMES for place in PLACES for who in WHO]
IS_ODD = {text: hashlib.sha256(text.encode()).digest()[0] < 64 for text in GUESTS}


def outcome(
    folder: Path, spam: Sequence[str], answer: Answer, ham: Sequence[str] = HAM, budget: int = 400
) -> tuple[LearnResult, SourceModel]:
    rows = [f'"{text}",0' for text in ham] + [f'"{text}",1' for text in spam]
    (folder / "sms.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    context = ContextWith(folder, answer)
    try:
        result = learn(context, [folder / "sms.csv"], "sms", SMS, brief="Text messages.", budget=budget)
        row = context.source("sms")
        return result, SourceModel.of(row.source_model, row.counts)
    finally:
        context.close()


def by_content(system: str, user: str) -> float:
    return 2.0 if "WIN" in user.splitlines()[-1] else -2.0


def by_oddity(system: str, user: str) -> float:
    text = user.splitlines()[-1].removeprefix("Record: ")
    return 2.0 if IS_ODD.get(text) else -2.0


def test_a_model_that_knows_what_the_other_detectors_do_not_gets_a_weight(tmp_path: Path) -> None:
    odd, even = ([text for text in GUESTS if IS_ODD[text] is label] for label in (True, False))
    result, model = outcome(tmp_path, odd, by_oddity, even)
    assert "the model helps here: AUC 0." in (result.language_note or "")
    assert "→ 1.000" in (result.language_note or "")
    assert model.with_llm.weights["language"] > 0.3
    assert model.model == "played:1"
    assert model.prompt_for("played:1") == model.prompt
    # the weight is not that of another model
    assert model.prompt_for("other:1") is None


def test_a_model_that_adds_nothing_gets_no_weight(tmp_path: Path) -> None:
    result, model = outcome(tmp_path, SPAM, lambda system, user: len(user) % 3 - 1.0)
    assert "the model does not help here (AUC " in (result.language_note or "")
    assert result.language_note.endswith("not used")  # type: ignore[union-attr]
    assert model.with_llm.weights["language"] == 0.0
    assert model.with_llm.threshold == model.without_llm.threshold


def test_a_case_without_an_answer_is_counted(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        asked = user.splitlines()[-1]
        if "Bob comes back from the lake" in asked or "WIN a holiday at town NOW call our free line, Ann" in asked:
            raise ModelFailure("neither normal nor anomalous")
        return by_content(system, user)

    result, _ = outcome(tmp_path, SPAM, answer)
    note = "the language model was tried on 59 normal and 19 anomalous cases; 2 got no answer; the model"
    assert (result.language_note or "").startswith(note)
    assert result.language_auc == pytest.approx(1.0)


@pytest.mark.parametrize("spam", [3, 7])
def test_a_model_tried_on_too_few_anomalous_cases_is_not_used(tmp_path: Path, spam: int) -> None:
    result, model = outcome(tmp_path, SPAM[:spam], by_content)
    assert result.language_note is not None
    assert f"60 normal and {spam} anomalous cases, fewer than 8 of a label: not used" in result.language_note
    assert model.with_llm.weights["language"] == 0.0
    assert result.language_auc is None


def test_a_model_without_any_answer_is_not_used(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        raise ModelFailure("it is gone")

    result, model = outcome(tmp_path, SPAM, answer)
    assert result.language_note == "the language model could not be tried (it is gone): not used"
    assert model.with_llm.weights["language"] == 0.0


def test_a_model_that_was_not_tried_is_not_used_until_it_is(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(system: str, user: str) -> float:
        asked.append(user)
        return by_content(system, user)

    result, model = outcome(tmp_path, SPAM, answer, budget=0)
    assert result.language_note == "the language model was not tried (no calls are allowed): not used"
    assert model.with_llm.weights["language"] == 0.0
    assert asked == []
    # the same file again, with calls: there is no new case, but a model to try
    result, model = outcome(tmp_path, SPAM, answer)
    assert asked
    assert "tried on 60 normal and 20 anomalous" in (result.language_note or "")
    tried = len(asked)
    outcome(tmp_path, SPAM, answer)
    assert len(asked) == tried


def test_without_labels_of_both_kinds_an_untried_model_is_used(tmp_path: Path) -> None:
    _, model = outcome(tmp_path, [], by_content, budget=0)
    assert model.with_llm.weights["language"] > 0
    assert model.prompt_for("other:1") is not None


@pytest.mark.parametrize("tried", [True, False])
def test_a_verdict_says_why_the_model_was_not_queried(tmp_path: Path, tried: bool) -> None:
    asked: list[str] = []

    def answer(system: str, user: str) -> float:
        asked.append(user)
        return by_oddity(system, user)

    odd, even = ([text for text in GUESTS if IS_ODD[text] is label] for label in (True, False))
    outcome(tmp_path, odd, answer, even, budget=400 if tried else 0)
    asked.clear()
    context = ContextWith(tmp_path, answer)
    context.language_detector().model.name = "other:1"  # type: ignore[misc]
    verdicts = [build(context).invoke(Record(text=f"{name} is back from abroad with a friend")) for name in NAMES]
    context.close()
    assert asked == []
    assert all(verdict.signals["language"] is None for verdict in verdicts)
    unsure = [verdict for verdict in verdicts if verdict.label == "unsure"]
    assert unsure
    reason = "other:1 was not tried on this source's cases, played:1 was" if tried else "was not tried (no calls"
    for verdict in unsure:
        assert reason in (" ".join(verdict.degraded) if tried else verdict.explanation)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", "text,Label\nx,0\n", " (is it 'Label'?)"),
        ("a.jsonl", '{"a": 1, "is_anomaly": 0}\n', " (is it 'is_anomaly'?)"),
        ("a.csv", "text,kind\nx,0\n", ""),
        ("a.log", "label 1\n", ""),
        ("missing.csv", "", ""),
    ],
)
def test_a_column_that_may_hold_the_labels_is_named(tmp_path: Path, name: str, content: str, found: str) -> None:
    if content:
        (tmp_path / name).write_text(content)
    assert probable_labels([tmp_path / name], ReadOptions(), 1_000) == found
