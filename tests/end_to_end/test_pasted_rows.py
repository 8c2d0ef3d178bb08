"""A row that is pasted as a text, as files have it or as verdicts spell it out, is the row of the file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings

FIELDS = {"host": "web 01", "started": "09:05:11", "took": "1h 5m", "exit code": "0", "load (%)": "45.5"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    folder, rng = tmp_path_factory.mktemp("pasted"), random.Random(1)
    lines = [",".join([*FIELDS, "label"])]
    for i in range(200):
        bad = i % 6 == 0
        hour = rng.randint(1, 4) if bad else rng.randint(8, 17)
        lines.append(
            f"web {rng.randint(1, 3):02},{hour:02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02},"
            f"{rng.randint(4, 9) if bad else 1}h {rng.randint(1, 59)}m,{124 * bad},{rng.uniform(20, 80):.1f},{int(bad)}"
        )
    (folder / "jobs.csv").write_text("\n".join(lines) + "\n")
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "jobs.csv"], "jobs", ReadOptions(label="label"), brief="jobs", budget=0)
    yield context
    context.close()


def judged(context: AppContext, **record: object) -> Verdict:
    (verdict,) = build(context).batch([JudgeRequest.about(Record.model_validate({"text": "", **record}), "jobs")])
    assert isinstance(verdict, Verdict)
    return verdict


def test_texts_of_a_row(context: AppContext, tmp_path: Path) -> None:
    expected = judged(context, fields=FIELDS)
    assert (expected.label, expected.degraded) == ("normal", ())
    as_written = " ".join(f"{name} is {value}" for name, value in FIELDS.items())
    for text in (expected.record.text, as_written):
        verdict = judged(context, text=text)
        assert (verdict.record.fields, verdict.record.text) == (expected.record.fields, expected.record.text)
        assert (verdict.label, verdict.probability, verdict.degraded) == ("normal", expected.probability, ())
        # lines of a file
        (tmp_path / "rows.txt").write_text(f"{text}\n")
        options = ReadOptions.model_validate(context.source("jobs").reading)
        (row,) = options.read_unlabelled(tmp_path / "rows.txt", 65_536)
        assert isinstance(row, ParsedRow)
        assert judged(context, text=row.record.text, fields=row.record.fields).degraded == ()


def test_what_of_a_row_was_not_read_is_the_reason(context: AppContext) -> None:
    for text in ("17,web 01,09:05:11,1h 5m,0,45.5", "web 01,09:05:11"):
        verdict = judged(context, text=text)
        count = text.count(",") + 1
        assert verdict.label == "unsure"
        assert verdict.degraded[0].startswith(f"fields: the text has {count} values, a row has 5: host, started, took")
    alone = judged(context, fields={"host": "web 01"})
    assert (alone.record.fields, alone.label) == ({"host": "web 01"}, "unsure")
    for changed, reason in (
        ({"host": "web 09"}, "it would be normal, but host is “web 09”, which no case has"),
        ({"started": "25:99:00"}, "it would be normal, but started is “25:99:00”, which is not read as a number"),
    ):
        verdict = judged(context, fields={**FIELDS, **changed})
        assert (verdict.label, verdict.facts[0]) == ("unsure", reason)
