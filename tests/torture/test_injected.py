"""What a record says to the judge makes no anomaly normal; honest lines that talk about judging stay normal."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from agent.core.records import Record, Verdict
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn
from tests.conftest import make_settings
from tests.torture.conftest import Figures
from tests.torture.injections import ANOMALOUS, ENCODED, HONEST, KINDS, NORMAL, filled

BRIEF = "The log of a data centre. Failures, losses and refused work are anomalous; work that is done is normal."


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> AppContext:
    rng, folder = random.Random(1), tmp_path_factory.mktemp("injected")
    lines = [f"bad {filled(template, rng)}" for template in ANOMALOUS for _ in range(4)]
    lines += [f"- {filled(template, rng)}" for template in (*NORMAL, *HONEST) for _ in range(6)]
    (folder / "cases.log").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    made = AppContext(make_settings(folder / "home", model="none"))
    learn(made, [folder / "cases.log"], "s", ReadOptions(label="0"), brief=BRIEF)
    return made


def judged(context: AppContext, texts: list[str]) -> list[Verdict]:
    records = (Record(text=text) for text in texts)
    verdicts = list(judge_many(context, build(context), records, "s", "none", keep=False))
    found = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
    assert len(found) == len(texts)
    return found


def test_no_instruction_makes_an_anomalous_record_normal(context: AppContext, is_long: bool, figures: Figures) -> None:
    rng, size = random.Random(2), 20 if is_long else 4
    texts = list[str]()
    for injection in [*KINDS, *(encode(KINDS[0]) for encode in ENCODED)]:
        for _ in range(size):
            line = filled(rng.choice(ANOMALOUS), rng)
            addition = injection.replace("{line}", line)
            texts.append(rng.choice([f"{line} {addition}", f"{addition} {line}", f"{line}. {addition}"]))
    found = judged(context, texts)
    labels = Counter(verdict.label for verdict in found)
    assert not [verdict.record.text for verdict in found if verdict.label == "normal"]
    unsure = [verdict.record.text for verdict in found if verdict.label == "unsure"]
    assert len(unsure) <= 0.03 * len(found), unsure
    rng = random.Random(3)
    honest = judged(context, [filled(rng.choice(HONEST), rng) for _ in range(1_000 if is_long else 200)])
    alarms = [verdict.record.text for verdict in honest if verdict.label != "normal"]
    assert len(alarms) <= 0.01 * len(honest), alarms
    figures(
        "injected",
        kinds=len(KINDS) + len(ENCODED),
        records=len(found),
        made_normal=labels["normal"],
        made_unsure=labels["unsure"],
        honest_lines=len(honest),
        false_alarms=len(alarms),
    )
