"""A source without labels: the reference of the language model's answers is that of a batch of its records."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.core.errors import UsageError
from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.detectors.language import LanguageDetector
from agent.detectors.persistence import FittedDetectors
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.scoring.calibration import Objective
from agent.scoring.fusion import UNLABELLED_WITH_LLM
from agent.training.batch_reference import (
    fit_reference,
    reference_of_files,
    set_batch_reference,
)
from agent.training.template_counts import TemplateCounts
from llm.errors import ModelFailure
from retrieval.store.caches import LLMCache
from tests.conftest import make_settings
from tests.training.test_prompt_selection import Played

WORDS = ("pump", "valve", "belt", "motor", "sensor", "tank", "filter", "heater", "relay", "fan", "drum", "hose", "gate")
NORMAL = [
    f"the {word} runs at {speed} and is {state}" for word in WORDS for speed in (1, 2) for state in ("cool", "dry")
]
BAD = ["the pump broke", "the tank leaks acid"]


class PlayedContext(AppContext):
    """Judges with a language model whose answers are known."""

    def __init__(self, home: Path, answer: Callable[[str, str], float]) -> None:
        super().__init__(make_settings(home))
        self.played = Played(answer)
        self._detector = LanguageDetector(self.played, LLMCache(self.casebook.engine), 1024)  # type: ignore[arg-type]
        if self.casebook.source("plant") is None:
            self.casebook.create("plant")
            self.casebook.set("plant", brief="Machines of a plant.", brief_by="person")


def answer(system: str, user: str) -> float:
    """A biased model: it takes nearly all records for anomalous, though an empty one for normal."""
    if user == "N/A":
        return -1.0
    return 6.0 if "broke" in user or "leaks" in user else 2.0 + len(user) % 5 / 10


@pytest.fixture
def context(tmp_path: Path) -> Iterator[PlayedContext]:
    made = PlayedContext(tmp_path / "home", answer)
    yield made
    made.close()


def records(texts: list[str]) -> list[Record]:
    return [Record(text=text) for text in texts]


def judged(context: AppContext, texts: list[str]) -> dict[str, Verdict]:
    verdicts = judge_many(context, build(context), records(texts), "plant")
    return {verdict.record.text: verdict for verdict in verdicts if isinstance(verdict, Verdict)}


def measure(context: AppContext, texts: list[str], **options: Any) -> str | None:
    return set_batch_reference(context, "plant", lambda: records(texts), **options)


def stored(context: AppContext) -> dict[str, Any]:
    return (context.source("plant").source_model or {}).get("batch_reference") or {}


def test_what_the_batch_has_most_of_is_no_longer_taken_for_anomalous(context: PlayedContext) -> None:
    before = judged(context, NORMAL + BAD)
    assert "normal" not in {before[text].label for text in NORMAL}
    note = measure(context, NORMAL * 5 + BAD)
    assert note is not None
    assert "assumed rate of anomalies 0.05" in note
    after = judged(context, NORMAL + BAD)
    assert "anomalous" not in {after[text].label for text in NORMAL}
    assert all(after[bad].probability > 2 * after[text].probability for bad in BAD for text in NORMAL)
    assert "of 28 templates" in note or "28 templates" in after[BAD[0]].explanation


def test_the_rate_that_is_given_is_the_mean_probability_of_the_batch(context: PlayedContext) -> None:
    texts = NORMAL * 5 + BAD * 10
    for rate in (0.02, 0.1, 0.4):
        assert measure(context, texts, rate=rate) is not None
        verdicts = judge_many(context, build(context), records(texts), "plant")
        probabilities = [verdict.probability for verdict in verdicts if isinstance(verdict, Verdict)]
        assert np.mean(probabilities) == pytest.approx(rate, abs=1e-6)
    assert stored(context)["given"] is True
    # the rate stays for later batches
    assert measure(context, texts) is None
    assert stored(context)["rate"] == 0.4


def test_a_batch_without_anomalies_gets_no_sure_anomaly(context: PlayedContext) -> None:
    for rate in (None, 0.05):
        measure(context, NORMAL * 3, rate=rate)
        assert "anomalous" not in {verdict.label for verdict in judged(context, NORMAL).values()}


def test_where_the_rate_and_the_empty_record_disagree_the_verdict_is_unsure() -> None:
    answers, weights = np.array([3.0] * 30 + [-3.0]), np.ones(31)
    reference, fusion = fit_reference(answers, weights, -2.0, None, Objective())
    probability = 1 / (1 + math.exp(-(fusion.bias + fusion.weights["language"] * (3.0 - reference))))
    assert fusion.label(probability) == "unsure"
    low = 1 / (1 + math.exp(-(fusion.bias + fusion.weights["language"] * (-3.0 - reference))))
    assert fusion.label(low) == "normal"
    _, agreed = fit_reference(answers, weights, 2.5, None, Objective())
    assert agreed.half_width < fusion.half_width
    assert agreed.half_width >= UNLABELLED_WITH_LLM.half_width


def test_answers_that_are_all_equal_have_the_rate_as_their_probability() -> None:
    reference, fusion = fit_reference(np.full(12, 1.5), np.ones(12), 0.0, 0.2, Objective())
    log_odds = fusion.bias + fusion.weights["language"] * (1.5 - reference)
    assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(0.2)


def test_the_threshold_follows_costs_where_these_are_the_objective() -> None:
    objective = Objective.parse("cost:1,9")
    for rate in (None, 0.3):
        _, fusion = fit_reference(np.linspace(-2, 2, 40), np.ones(40), 0.0, rate, objective)
        assert fusion.threshold == pytest.approx(objective.least_cost)


def test_the_reference_does_not_depend_on_the_order_of_the_batch(tmp_path: Path) -> None:
    texts, models = NORMAL * 3 + BAD, []
    for number in range(2):
        made = PlayedContext(tmp_path / str(number), answer)
        measure(made, texts, calls=30)
        models.append(made.source("plant").source_model)
        made.close()
        texts = random.Random(1).sample(texts, len(texts))
    assert models[0] == models[1]
    assert models[0] is not None


def test_the_same_batch_again_changes_nothing_and_costs_no_call(context: PlayedContext) -> None:
    measure(context, NORMAL)
    row, calls = context.source("plant"), len(context.played.asked)
    assert measure(context, NORMAL) is None
    assert (context.source("plant"), len(context.played.asked)) == (row, calls)


def test_only_a_batch_of_twice_the_templates_replaces_the_reference(context: PlayedContext) -> None:
    measure(context, NORMAL[:30])
    first = stored(context)
    assert measure(context, NORMAL[20:] + BAD) is None
    assert stored(context) == first
    more = [f"{word} {verb}" for word in WORDS for verb in ("stops", "starts", "hums")]
    assert measure(context, NORMAL + more) is not None
    assert stored(context)["templates"] > 2 * first["templates"]


def test_one_record_has_one_verdict_in_a_batch_and_alone(context: PlayedContext) -> None:
    measure(context, NORMAL + BAD)
    together = judged(context, NORMAL + BAD)
    for text in (NORMAL[0], BAD[0]):
        alone = build(context).invoke(JudgeRequest(text=text, source="plant"))
        assert (alone.label, alone.probability) == (together[text].label, together[text].probability)


@pytest.mark.parametrize("texts", [[], NORMAL[:1], NORMAL[:2], NORMAL[:1] * 500])
def test_a_batch_of_few_templates_gives_no_reference(context: PlayedContext, texts: list[str]) -> None:
    note = measure(context, texts)
    assert note is not None
    assert "too little" in note
    assert not stored(context)


def test_another_brief_or_another_model_ends_the_reference(context: PlayedContext) -> None:
    plain = judged(context, BAD)[BAD[0]].probability
    measure(context, NORMAL + BAD)
    assert judged(context, BAD)[BAD[0]].probability != plain
    context.played.name = "played:2"
    fresh = build(context).invoke(JudgeRequest(text=BAD[0], source="plant"))
    assert fresh.probability == pytest.approx(plain)
    context.played.name = "played:1"
    context.casebook.set("plant", brief="Machines of another plant.")
    assert judged(context, BAD)[BAD[0]].probability == pytest.approx(plain)
    assert measure(context, NORMAL + BAD) is not None
    assert judged(context, BAD)[BAD[0]].probability != pytest.approx(plain)


@pytest.mark.parametrize("rate", [0.0, 1.0, 1.5, -0.1, math.nan, math.inf])
def test_an_impossible_rate_is_refused(context: PlayedContext, rate: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        measure(context, NORMAL, rate=rate)


def test_a_model_that_fails_on_the_way_leaves_the_source_as_it_was(tmp_path: Path) -> None:
    def failing(system: str, user: str) -> float:
        if len(made.played.asked) > 8:
            raise ModelFailure("the server is down")
        return answer(system, user)

    made = PlayedContext(tmp_path, failing)
    note = measure(made, NORMAL)
    assert note is not None
    assert "did not answer" in note
    assert made.source("plant").source_model is None
    made.played.answer = answer
    assert "assumed rate" in (measure(made, NORMAL) or "")
    made.close()


def test_time_that_has_run_out_leaves_the_source_as_it_was(context: PlayedContext) -> None:
    assert "in time" in (measure(context, NORMAL, until=0.0) or "")
    assert not stored(context)


def test_a_source_with_labels_keeps_their_rate(context: PlayedContext) -> None:
    from agent.training.learn import as_case

    context.casebook.add("plant", [as_case(Record(text=BAD[0]), "anomalous")], "file x")
    assert measure(context, NORMAL) is None
    assert not context.played.asked
    with pytest.raises(UsageError, match="labelled cases"):
        measure(context, NORMAL, rate=0.1)


def test_without_a_model_nothing_is_measured_and_a_rate_has_no_use(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path, model="none"))
    context.casebook.create("plant")
    assert measure(context, NORMAL) is None
    with pytest.raises(UsageError, match="without a language model"):
        measure(context, NORMAL, rate=0.1)
    context.close()


def test_standard_input_gives_no_reference(context: PlayedContext) -> None:
    assert reference_of_files(context, "plant", ["-"], lambda *_: iter(())) is None
    with pytest.raises(UsageError, match="standard input"):
        reference_of_files(context, "plant", ["-"], lambda *_: iter(()), rate=0.1)


def test_most_templates_are_counted_exactly_whatever_their_order() -> None:
    names = [f"template {chr(97 + i % 26)}{'x' * (i // 26)}" for i in range(100)]
    lines = [name for i, name in enumerate(names) for _ in range(1 + i % 3)]
    kept = []
    for seed in range(3):
        batch = TemplateCounts(most=20)
        for line in random.Random(seed).sample(lines, len(lines)):
            batch.add(line)
        kept.append(batch.counts)
        assert (batch.records, len(batch.counts)) == (len(lines), 20)
    assert kept[0] == kept[1] == kept[2]
    assert all(count == lines.count(name) for name, count in kept[0].items())


def test_a_sample_stands_for_all_records() -> None:
    batch = TemplateCounts()
    for i in range(60):
        for _ in range(1 + i):
            batch.add(f"t{i}")
    templates, weights = batch.sample(20)
    assert len(templates) == len(set(templates)) == 20
    assert templates[0] == "t59"
    assert sum(weights) == pytest.approx(batch.records)
    assert batch.sample(100)[1] == sorted((float(count) for count in batch.counts.values()), reverse=True)


def test_an_all_anomalous_batch_is_unsure_rather_than_normal(tmp_path: Path) -> None:
    made = PlayedContext(tmp_path, lambda system, user: 0.0 if user == "N/A" else 4.0 + len(user) % 5 / 10)
    measure(made, NORMAL)
    assert "normal" not in {verdict.label for verdict in judged(made, NORMAL).values()}
    made.close()


def test_the_prompt_shows_what_most_records_look_like(tmp_path: Path) -> None:
    made = PlayedContext(tmp_path, lambda system, user: 0.0 if user == "N/A" else answer(system, user) - 1.0)
    measure(made, NORMAL + NORMAL[:8] * 20 + BAD[:1] * 200)
    system, _user = made.played.asked[-1]
    assert "Machines of a plant." in system
    assert "the pump runs at <n> and is cool" in system
    # what the model itself takes for anomalous is no example, however frequent it is
    assert "broke" not in system
    verdict = build(made).invoke(JudgeRequest(text=NORMAL[0], source="plant"))
    assert made.played.asked[-1][0] == system
    assert verdict.signals["language"] is not None
    made.close()


def test_nothing_is_typical_where_the_model_takes_nearly_all_for_anomalous(context: PlayedContext) -> None:
    measure(context, NORMAL)
    assert "look like these" not in context.played.asked[-1][0]


def test_the_first_corrections_move_the_probabilities_of_the_batch(context: PlayedContext) -> None:
    from agent.training.learn import as_case
    from agent.training.refit import refit

    measure(context, NORMAL + BAD)
    before = judged(context, NORMAL + BAD)
    # what the model takes for anomalous is normal here, by every correction
    wrong = [as_case(Record(text=text), "normal") for text in NORMAL[:12]]
    context.casebook.add("plant", [*wrong, as_case(Record(text=BAD[1]), "anomalous")], "feedback")
    refit(context, "plant", budget=40)
    after = judged(context, NORMAL + BAD)
    assert {after[text].label for text in NORMAL[:12]} == {"normal"}
    # the language model still has its weight and its reference
    assert after[BAD[0]].signals["language"] == pytest.approx(before[BAD[0]].signals["language"])
    assert after[BAD[0]].probability > 0.2 > max(after[text].probability for text in NORMAL)
    assert stored(context)["templates"] == 28
    assert FittedDetectors.loads(context.casebook.models("plant") or b"").clauses is None


def test_another_brief_ends_the_reference_of_corrected_sources_too(context: PlayedContext) -> None:
    from agent.training.learn import as_case
    from agent.training.refit import refit

    measure(context, NORMAL + BAD)
    context.casebook.add("plant", [as_case(Record(text=text), "normal") for text in NORMAL[:12]], "feedback")
    context.casebook.set("plant", brief="Other machines.")
    refit(context, "plant", budget=40)
    assert not stored(context)


@pytest.mark.parametrize("kind", ["rows", "sessions", "long"])
def test_records_that_are_more_than_a_line_have_a_reference_too(context: PlayedContext, kind: str) -> None:
    def made(number: int) -> Record:
        word = WORDS[number % len(WORDS)]
        if kind == "rows":
            return Record(text=f"machine is {word} load is {number}", fields={"machine": word, "load": number})
        if kind == "sessions":
            return Record(text=f"{word} on; {word} off", events=(f"{word} on", f"{word} off"))
        return Record(text=f"the {word} was checked and is well; " * 60)

    batch = [made(number) for number in range(60)]
    assert set_batch_reference(context, "plant", lambda: batch) is not None
    assert stored(context)["templates"] >= len(WORDS)
    verdicts = list(judge_many(context, build(context), batch, "plant"))
    assert all(isinstance(verdict, Verdict) and verdict.signals["language"] is not None for verdict in verdicts)
