"""A fault in the middle of a long line counts, and the explanation names its clause."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.bulk.runner import BulkOptions, BulkRunner
from agent.core.records import Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import Pipeline
from agent.training.learn import learn
from tests.conftest import make_settings
from tests.machine_hall import BAD, FAULT, GOOD, THINGS

LOG = ReadOptions(format="log", label="0")


def lines(patterns: list[str], rng: random.Random) -> list[str]:
    return [
        f"2026-03-0{rng.randint(1, 9)} 10:00:00 " + pattern.format(thing, n=rng.randint(1, 99))
        for pattern in patterns
        for thing in THINGS
    ]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    home = tmp_path_factory.mktemp("clauses")
    rng = random.Random(3)
    rows = [f"- {line}" for line in lines(GOOD, rng) * 2] + [f"bad {line}" for line in lines(BAD, rng) * 2]
    (home / "learn.log").write_text("\n".join(rows) + "\n", encoding="utf-8")
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "learn.log"], "hall", LOG, brief="Machines in a factory hall.")
    yield context
    context.close()


def judge(context: AppContext, *texts: str) -> list[Verdict]:
    verdicts = list(Pipeline(context).judge([JudgeRequest(text=text, source="hall") for text in texts]))
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    return verdicts  # type: ignore[return-value]


def padded(fault: str, chars: int) -> str:
    rng, pool = random.Random(chars), lines(GOOD, random.Random(1))
    before, after = [rng.choice(pool)], [rng.choice(pool)]
    while sum(map(len, before + after)) < chars:
        before.append(rng.choice(pool))
        after.append(rng.choice(pool))
    return " ".join([*before, fault, *after])


def test_a_hidden_fault_is_anomalous_and_its_clause_is_named(learned: AppContext) -> None:
    texts = [padded(FAULT, chars) for chars in (100, 400, 900, 3_900, 8_000)]
    for verdict in judge(learned, *texts):
        assert verdict.label == "anomalous"
        assert "by its clause “" in verdict.explanation
        assert "motor failed" in verdict.explanation.split("“")[1]
        assert "motor failed" in verdict.precedents[0].text, "the precedents are those of the clause"
        assert not verdict.degraded


def test_a_known_fault_is_found_between_texts_that_no_case_has(learned: AppContext) -> None:
    # nothing separates the fault from words that no case has, and which say nothing bad
    unseen = "the visitors from the school went round the halls with their teacher and had lunch in the canteen"
    fault = "pump motor failed and burned"
    for text in (f"{unseen} {fault} {unseen}", f"{fault} {unseen}", f"{unseen} {fault}"):
        (verdict,) = judge(learned, f"{padded('', 900)} {text} {padded('', 900)}")
        assert verdict.label == "anomalous", text
        assert f"by its clause “{fault}”" in verdict.explanation


def test_normal_lines_together_are_not_anomalous(learned: AppContext) -> None:
    verdicts = judge(learned, *(padded("", chars) for chars in (100, 900, 3_900, 8_000)))
    # the whole of thousands of characters is far from every case
    assert [verdict.label for verdict in verdicts[:2]] == ["normal"] * 2
    assert "anomalous" not in {verdict.label for verdict in verdicts}
    assert not any("clause" in verdict.explanation for verdict in verdicts)
    assert not any("was not read" in reason for verdict in verdicts for reason in verdict.degraded)


def test_verdicts_do_not_depend_on_other_records_nor_on_what_was_judged_before(learned: AppContext) -> None:
    texts = [padded(FAULT, 300), padded("", 300), FAULT, padded(FAULT, 2_000), padded(FAULT, 300)]
    alone = [judge(learned, text)[0] for text in texts]
    for outcomes in (judge(learned, *texts), judge(learned, *reversed(texts))[::-1], judge(learned, *texts * 2)[5:]):
        assert [verdict.label for verdict in outcomes] == [verdict.label for verdict in alone]
        for verdict, other in zip(outcomes, alone, strict=True):
            assert verdict.probability == pytest.approx(other.probability, abs=1e-6)
            assert verdict.explanation == other.explanation


def _quiet(*_: object) -> None:
    pass


def test_bulk_gives_the_same_verdicts(learned: AppContext, tmp_path: Path) -> None:
    texts = [padded(FAULT, 200), padded("", 200), padded(FAULT, 600), padded(FAULT, 3_000), padded("", 6_000)]
    # the same templates with other numbers
    texts += [text.replace("10:00:00", "11:22:33") for text in texts]
    file = tmp_path / "judge.log"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    options = BulkOptions(files=(str(file),), source="hall", detail="full", to="jsonl", chunk_size=4_096)
    BulkRunner(learned, ReadOptions(format="log"), options, _quiet, _quiet).run(tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    singly = judge(learned, *texts)
    assert [row["label"] for row in out] == [verdict.label for verdict in singly]
    assert [row["probability"] for row in out] == pytest.approx([v.probability for v in singly], abs=1e-6)


def test_without_cases_and_without_a_model_nothing_is_called_normal(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    context.casebook.create("hall")
    context.casebook.set("hall", brief="Machines in a factory hall.", brief_by="person")
    verdicts = judge(context, FAULT, padded(FAULT, 900), padded("", 900))
    context.close()
    assert [verdict.label for verdict in verdicts] == ["unsure"] * 3
