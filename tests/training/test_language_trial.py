"""What counts as evidence that the language model helps: gains on kinds of cases that no weight was fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.core.prompts import PromptVariant, render
from agent.detectors.language import LanguageDetector
from agent.detectors.lora import SourceAdapter
from agent.scoring.calibration import Objective
from agent.scoring.fusion import SourceModel
from agent.training.kinds import kinds_of_templates
from agent.training.language_trial import Evidence, LanguageTrial, TunedLanguage, compare
from agent.training.leave_one_out import Template
from retrieval.arrays import Floats
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store
from retrieval.store.sources import SourceSnapshot
from retrieval.types import StoredCase
from tests.training.test_prompt_selection import Played

KINDS = np.repeat(np.arange(20), 4)
ANOMALOUS = KINDS % 2 == 1
SIGN = np.where(ANOMALOUS, 1.0, -1.0)


def evidence(answers: Floats, others: Floats, kinds: NDArray[np.int64] = KINDS) -> Evidence:
    return compare(others, answers, ANOMALOUS, np.ones(len(ANOMALOUS)), kinds)


def noise(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=len(ANOMALOUS))


def test_a_model_that_knows_more_than_the_others_helps() -> None:
    found = evidence(2 * SIGN + noise(1), 0.3 * SIGN + noise(2))
    assert found.helps
    assert found.auc_with > found.auc_without + 0.1
    assert str(found).startswith("the model helps here: AUC 0.")


@pytest.mark.parametrize("seed", range(8))
def test_a_model_that_guesses_does_not_help(seed: int) -> None:
    found = evidence(2 * noise(seed), SIGN + noise(seed + 100))
    assert not found.helps
    assert str(found).endswith(": not used")


def test_a_model_that_repeats_the_others_does_not_help() -> None:
    others = 2 * SIGN + noise(3)
    assert not evidence(others + 0.1 * noise(4), others).helps


def test_a_gain_on_siblings_of_one_kind_is_no_evidence() -> None:
    """The same gain on cases of many kinds is."""
    chosen = np.arange(len(KINDS)) < 40
    answers, others = 2 * SIGN * chosen, 0.5 * SIGN + noise(5)
    assert evidence(answers, others).helps
    one_kind = np.where(chosen, 0, KINDS)
    assert not evidence(answers, others, one_kind).helps


def test_cases_of_one_kind_are_compared_each_by_itself() -> None:
    assert evidence(2 * SIGN + noise(1), 0.3 * SIGN + noise(2), np.zeros(len(KINDS), dtype=np.int64)).helps


def test_kinds_are_clusters_of_similar_texts() -> None:
    vectors = np.eye(3)[[0, 0, 1, 2, 2]] + 0.05
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = kinds_of_templates(vectors.astype(np.float32))
    assert kinds[0] == kinds[1] != kinds[2]
    assert len(set(kinds.tolist())) == 3
    assert kinds[3] == kinds[4]


# numbers would be masked
COLOURS = ("red", "blue", "green", "grey", "black", "white")
THINGS = ("box", "bag", "can", "jar", "tin", "cup", "pot", "lid", "pan", "tub")
TEXTS = [f"the {colour} {thing} is here" for colour in COLOURS for thing in THINGS]


class Adapted(Played):
    """A model whose adapter this is."""

    adapter_sha256: str | None = "a"


def _tuned_trial(folder: Path, model: Adapted) -> tuple[SourceModel, Adapted]:
    cases = [
        StoredCase(f"c{i}", f"k{i}", "", "anomalous" if i % 2 else "normal", TEXTS[i], {}, (), "person")
        for i in range(60)
    ]
    vectors = np.eye(60, dtype=np.float32)
    templates = [Template(case, vectors[i], {"neighbours": 0.0}, ()) for i, case in enumerate(cases)]
    held_out = frozenset(f"k{i}" for i in range(20))
    adapter = SourceAdapter("a", "w", PromptVariant("watch", reference=0.0), held_out)
    row = SourceSnapshot("s", "A source.", "person", 1, 1, None, None, None, None, {"normal": 30, "anomalous": 30})
    by_key = {template.key: template.case for template in templates}
    trial = LanguageTrial(row, by_key, 0.05, Objective(), True, TunedLanguage(adapter))
    detector = LanguageDetector(model, LLMCache(open_store(f"sqlite:///{folder / 'a.db'}")), 1024)
    return trial.run(SourceModel(), templates, detector, 200, None), model


def test_only_held_out_cases_weigh_a_tuned_model_with_the_prompt_it_was_trained_with(tmp_path: Path) -> None:
    model, played = _tuned_trial(tmp_path, Adapted(lambda system, user: float(len(user))))
    asked = {user for _, user in played.asked} - {"N/A"}
    assert asked == set(TEXTS[:20])
    assert {system for system, _ in played.asked} == {render("ask_watch", brief="A source.")}
    assert model.prompt.wording == "watch"
    assert "tried on 10 normal and 10 anomalous cases" in str(model.language_note)
    assert "with the source's adapter" in str(model.language_note)


def test_a_model_without_the_adapter_is_tried_on_all_cases_and_that_is_said(tmp_path: Path) -> None:
    without = Adapted(lambda system, user: 1.0)
    without.adapter_sha256 = None
    model, played = _tuned_trial(tmp_path, without)
    assert len({user for _, user in played.asked} - {"N/A"}) == 60
    assert "without the source's adapter, which it does not have" in str(model.language_note)
