"""What `learn` reports about the language model, and what the fit makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.data.read_options import ReadOptions
from agent.detectors.language import LanguageDetector
from agent.pipeline.context import AppContext
from agent.scoring.fusion import SourceModel
from agent.training.learn import LearnResult, learn
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

    def language_detector(self) -> LanguageDetector:
        return self._detector


PLACES = ("home", "school", "the station", "the market", "work", "the garden", "the lake", "church", "town", "the gym")
NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn")
HAM = [f"{name} comes back from {place} with the children" for name in NAMES for place in PLACES]
SPAM = [f"WIN a holiday at {place} NOW call our free line, {name}" for name in NAMES[:2] for place in PLACES]


def outcome(folder: Path, spam: Sequence[str], answer: Answer) -> tuple[LearnResult, SourceModel]:
    rows = [f'"{text}",0' for text in HAM] + [f'"{text}",1' for text in spam]
    (folder / "sms.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    context = ContextWith(folder, answer)
    try:
        result = learn(context, [folder / "sms.csv"], "sms", SMS, brief="Text messages.", budget=400)
        row = context.source("sms")
        return result, SourceModel.of(row.source_model, row.counts)
    finally:
        context.close()


def by_content(system: str, user: str) -> float:
    return 2.0 if "WIN" in user else -2.0


def test_a_case_without_an_answer_is_counted_and_the_model_keeps_its_say(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        if "Bob comes back from the lake" in user or "WIN a holiday at town NOW call our free line, Ann" in user:
            raise ModelFailure("neither normal nor anomalous")
        return by_content(system, user)

    result, model = outcome(tmp_path, SPAM, answer)
    assert result.language_note == "the language model was tried on 59 normal and 19 anomalous cases; 2 got no answer"
    assert result.language_auc == pytest.approx(1.0)
    assert model.with_llm.weights["language"] > 0


@pytest.mark.parametrize("spam", [3, 7])
def test_a_model_tried_on_too_few_anomalous_cases_has_no_say(tmp_path: Path, spam: int) -> None:
    result, model = outcome(tmp_path, SPAM[:spam], by_content)
    assert result.language_note is not None
    assert f"60 normal and {spam} anomalous cases, fewer than 8 of a label" in result.language_note
    assert "gets no say" in result.language_note
    assert model.with_llm.weights["language"] == 0.0
    assert result.language_auc is None


def test_a_model_without_any_answer_has_no_say(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        raise ModelFailure("it is gone")

    result, model = outcome(tmp_path, SPAM, answer)
    assert result.language_note is not None
    assert "could not be tried (it is gone)" in result.language_note
    assert model.with_llm.weights["language"] == 0.0
