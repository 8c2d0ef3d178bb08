"""How the language model is asked, chosen on cases; the model is played by one whose answers are known."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from agent.core.prompts import PromptVariant, render
from agent.detectors.language import EXAMPLES, WORDINGS, LanguageDetector, NearCase, examples_for
from agent.training.prompt_selection import PromptTrial, select_prompt
from llm.errors import ModelFailure, NoAnswer
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store

BRIEF = "A log."
Answer = Callable[[str, str], float]


class Played:
    """A language model that gives the log-odds of ``answer(system message, user message)``."""

    name, sha256 = "played:1", None

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[tuple[str, str]]()

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        system, user = (str(message.content) for message in messages)
        self.asked.append((system, user))
        odds = math.exp(self.answer(system, user))
        return {"anomalous": math.log(odds / (1 + odds)), "normal": math.log(1 / (1 + odds))}

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        raise ModelFailure("it gives log-probabilities")

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        raise ModelFailure("it tells nothing")

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        return text, 0

    def room(self, messages: Sequence[BaseMessage]) -> int:
        return 1_000

    def close(self) -> None: ...


def wording_of(system: str) -> str:
    return next(one for one in WORDINGS if system == render(f"ask_{one}", brief=BRIEF))


def cases(n: int, near: Sequence[NearCase] = ()) -> list[PromptTrial]:
    return [PromptTrial(f"record {i} is {'bad' if i % 2 else 'good'}", bool(i % 2), near) for i in range(n)]


def language_detector(model: Played, folder: Path) -> LanguageDetector:
    return LanguageDetector(model, LLMCache(open_store(f"sqlite:///{folder / 'store.db'}")), 1024)


@pytest.mark.parametrize("best", WORDINGS)
def test_the_wording_that_tells_cases_apart_is_taken_within_the_budget(tmp_path: Path, best: str) -> None:
    def answer(system: str, user: str) -> float:
        told = 2.0 if "bad" in user else -2.0
        return told if wording_of(system) == best else len(user) % 3 - 1.0

    model = Played(answer)
    asked = select_prompt(language_detector(model, tmp_path), BRIEF, cases(300), 200)
    assert asked.variant.wording == best
    # beside the cases, each wording is asked about an empty record
    assert 150 < len(model.asked) <= 200 + len(WORDINGS)
    assert len(set(model.asked)) == len(model.asked)
    assert len(asked.log_odds) > 100
    assert all((word > 0) == bool(i % 2) for i, word in asked.log_odds.items())


def test_the_usual_wording_stays_without_a_clear_gain_or_calls_enough(tmp_path: Path) -> None:
    model = Played(lambda system, user: 2.0 if "bad" in user else -2.0)
    assert select_prompt(language_detector(model, tmp_path), BRIEF, cases(300), 200).variant.wording == WORDINGS[0]
    few = Played(lambda system, user: 2.0 if "bad" in user and wording_of(system) == WORDINGS[-1] else -2.0)
    assert select_prompt(language_detector(few, tmp_path / "few"), BRIEF, cases(300), 48).variant.wording == WORDINGS[0]
    assert len(few.asked) <= 49


NEAR = [NearCase(1 - i / 10, "anomalous" if i in (0, 1, 3, 5, 6) else "normal", f"disk {i}") for i in range(10)]


@pytest.mark.parametrize("best", EXAMPLES)
def test_as_many_examples_are_given_as_help(tmp_path: Path, best: tuple[int, bool]) -> None:
    shown = [case.text for case in examples_for(NEAR, PromptVariant(examples=best[0], balanced=best[1]))]

    def answer(system: str, user: str) -> float:
        given = re.findall("Labelled before: (.*)", user)
        bad = "is bad" in user.splitlines()[-1]
        size = 2.0 if given == shown else 0.5 if given and shown else 0.0
        return size if bad else -size

    asked = select_prompt(language_detector(Played(answer), tmp_path), BRIEF, cases(300, NEAR), 200)
    assert (asked.variant.examples, asked.variant.balanced) == best


def test_examples_are_the_nearest_cases_the_most_similar_last() -> None:
    def texts(examples: int, balanced: bool) -> list[str]:
        return [case.text[-1] for case in examples_for(NEAR, PromptVariant("x", None, examples, balanced))]

    assert texts(0, False) == []
    assert texts(3, False) == ["2", "1", "0"]
    assert texts(4, True) == ["4", "2", "1", "0"]
    # as many as there are
    assert texts(40, False) == [str(i) for i in reversed(range(10))]
    assert [case.text[-1] for case in examples_for(NEAR[:2], PromptVariant(examples=4, balanced=True))] == ["1", "0"]


def test_a_variant_is_better_for_what_it_adds_to_the_other_detectors(tmp_path: Path) -> None:
    """Without examples the model repeats what the others know; with four it knows the rest."""

    def known(i: int) -> bool:
        return i % 3 > 0

    def answer(system: str, user: str) -> float:
        if user == "N/A":
            return 0.0
        i = int(re.findall(r"record (\d+) is", user)[-1])
        sure = 2.0 if i % 2 else -2.0
        return sure if known(i) is (user.count("Labelled before") != 4) else 0.0

    trials = [
        replace(case, others=(3.0 if case.anomalous else -3.0) * known(i)) for i, case in enumerate(cases(300, NEAR))
    ]
    selection = select_prompt(language_detector(Played(answer), tmp_path), BRIEF, trials, 200)
    assert selection.variant.examples == 4


def test_a_model_that_cannot_be_heard_is_an_error_and_no_guess(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        raise ModelFailure("it is gone")

    with pytest.raises(ModelFailure, match="it is gone"):
        select_prompt(language_detector(Played(answer), tmp_path), BRIEF, cases(20), 200)


def test_a_case_without_an_answer_is_missing_and_the_trial_goes_on(tmp_path: Path) -> None:
    def answer(system: str, user: str) -> float:
        if re.search(r"record \d*7 is", user):
            raise ModelFailure("neither normal nor anomalous")
        return 2.0 if "bad" in user else -2.0

    selection = select_prompt(language_detector(Played(answer), tmp_path), BRIEF, cases(300), 200)
    assert selection.missing >= 5
    assert len(selection.log_odds) + selection.missing > 100
    assert not any(i % 10 == 7 for i in selection.log_odds)
    assert all((log_odds > 1) == bool(i % 2) for i, log_odds in selection.log_odds.items())


def test_a_wording_without_answers_ends_its_own_trial_only(tmp_path: Path) -> None:
    """Also the default one: another that is answered is selected."""

    def answer(system: str, user: str) -> float:
        if wording_of(system) in WORDINGS[:2]:
            raise ModelFailure("neither normal nor anomalous")
        return 2.0 if "bad" in user and wording_of(system) == WORDINGS[2] else -2.0

    model = Played(answer)
    selection = select_prompt(language_detector(model, tmp_path), BRIEF, cases(300), 200)
    assert selection.variant.wording == WORDINGS[2]
    assert selection.missing == 0
    assert len(selection.log_odds) > 100
    # a case, then the empty record that it is compared with
    assert sum(wording_of(system) in WORDINGS[:2] for system, _ in model.asked) <= 2 * 8


def test_a_wording_without_an_answer_to_the_empty_record_is_missing(tmp_path: Path) -> None:
    """A server that lists few tokens may give none of either answer; that ends neither a long trial nor a short one."""

    def answer(system: str, user: str) -> float:
        if wording_of(system) == WORDINGS[0] and user == "N/A":
            raise NoAnswer("the model's reply begins with 'I'")
        return 2.0 if "bad" in user else -2.0

    for budget in (200, 40):
        detector = language_detector(Played(answer), tmp_path / str(budget))
        selection = select_prompt(detector, BRIEF, cases(300), budget)
        assert selection.variant.wording == WORDINGS[1]
        assert len(selection.log_odds) >= budget * 0.4


def test_the_same_asked_at_the_same_time_is_asked_once(tmp_path: Path) -> None:
    def slowly(system: str, user: str) -> float:
        time.sleep(0.2)
        return 1.5

    model = Played(slowly)
    detector = LanguageDetector(model, LLMCache(open_store(f"sqlite:///{tmp_path / 'store.db'}")), 1024)
    with ThreadPoolExecutor(8) as many:
        told = list(many.map(lambda _: detector.log_odds(BRIEF, "disk 7 lost"), range(8)))
    assert told == pytest.approx([1.5] * 8)
    assert len(model.asked) == 1
    assert detector._in_flight == {}
