"""The facts of a verdict are kept as they are, not parsed from its explanation."""

from __future__ import annotations

import json
from pathlib import Path

from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings


def test_a_fact_that_quotes_a_separator_comes_whole_from_the_history(tmp_path: Path) -> None:
    rows = [{"pieces": i % 20, "country": "DE" if i % 2 else "FR", "label": 0} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learn(context, [tmp_path / "rows.jsonl"], "rows", ReadOptions(label="label", normal=("0",)), brief="rows")
    request = JudgeRequest(source="rows", fields={"pieces": 3.0, "country": "X; Y; Z"})
    verdict = build(context).invoke(request)
    context.history.put([verdict.to_stored()])
    fact = "country is “X; Y; Z”, which no normal case has"
    assert fact in verdict.facts
    assert load_verdict(context, verdict.id).facts == verdict.facts
    assert verdict.explanation.endswith(f": {'; '.join(verdict.facts)}.")
    # the contract's JSON has no such key
    assert "facts" not in json.loads(verdict.to_json())
    context.close()
