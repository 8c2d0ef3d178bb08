"""Times of the day and spans of time are named as people write them, wherever a verdict names their values."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

from agent.bulk.alike import AlikeRows
from agent.core.locale import translator
from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.explain.plain_facts import plain
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings


def row_of(chance: random.Random, *, bad: bool) -> str:
    hour = chance.randint(1, 4) if bad else chance.randint(8, 17)
    at = f"{hour:02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"
    return f"{at},{chance.randint(1, 9)}m {chance.randint(0, 59)}s,{chance.random():.3f},{int(bad)}"


def test_times_in_facts_and_groups(tmp_path: Path) -> None:
    chance, path = random.Random(1), tmp_path / "jobs.csv"
    rows = [row_of(chance, bad=chance.random() < 0.2) for _ in range(300)]
    path.write_text("\n".join(["at,took,load,label", *rows]) + "\n")
    with closing(AppContext(make_settings(tmp_path / "home", model="none"))) as context:
        learn(context, [path], "jobs", ReadOptions(label="label"), brief="jobs", budget=0)
        record = Record(text="", fields={"at": "02:17:30", "took": "1h 5m", "load": 0.5})
        (verdict,) = build(context).batch([JudgeRequest.about(record, "jobs")])
        group = AlikeRows.of(context.source("jobs")).name("t", verdict)
    assert verdict.label == "anomalous"
    at, took = (next(fact for fact in verdict.facts if fact.startswith(f"{name} is")) for name in ("at", "took"))
    assert at.startswith("at is 2:17:30, below all normal cases (8:")
    assert took.startswith("took is 1:05:00, above all normal cases (0:01:")
    assert plain(at, translator("ko")) != at
    (change,) = (fact for fact in verdict.facts if fact.startswith("would be normal if"))
    assert "at were " in change
    assert "(it is 2:17:30)" in change
    assert "at below 8:" in group
    assert "took above 0:09:" in group
