"""Drafts of a brief: what copies records, lists them or leaves a label out is asked for once more, then refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.brief import draft_brief, problem_of
from agent.training.learn import learn

GOOD = "Log lines of a disk array. Normal records report routine reads. Anomalous records report failing disks."
LIST = "Records labelled normal: - sector 5 read without any trouble. - sector 6 read. Records labelled anomalous: - x."
SHOWN = {"normal": ["sector <n> read without any trouble"], "anomalous": ["disk <n> lost its spare head"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD, None),
        ("Normal records are routine.", "has 1 complete sentence"),
        ("", "has 0 complete sentences"),
        ("Normal ones say sector <n> read without any trouble. Anomalous ones report errors.", "quotes a record"),
        ("Normal ones: Sector 12 READ without any trouble. Anomalous ones report errors.", None),
        ("All of it is routine. It concerns disks.", "does not describe the anomalous records"),
        ("Errors of disks abound. They are abnormal.", "does not describe the normal records"),
        ("Unusual, atypical errors. They are unexpected and irregular.", "does not describe the normal records"),
        ("One. Two. Three normal. Four errors. Five.", "has 5 complete sentences"),
    ],
)
def test_what_is_a_brief(text: str, problem: str | None) -> None:
    found = problem_of(text, SHOWN)
    assert found is None if problem is None else str(found).startswith(problem)


class Writer:
    """Gives the texts in order."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.prompts = list(texts), list[str]()

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        self.prompts.append(str(messages[-1].content))
        yield self.texts.pop(0)


@pytest.fixture
def learned(context: AppContext, tmp_path: Path) -> AppContext:
    file = tmp_path / "disks.csv"
    lines = [f"sector {i} read without any trouble,0" for i in range(6)] + ["disk 4 lost its spare head,1"]
    file.write_text("message,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    learn(context, [file], "disks", ReadOptions(label="label"), brief="x", budget=0)
    return context


@pytest.mark.parametrize(
    ("texts", "drafted"), [([GOOD], True), ([LIST, GOOD], True), ([LIST, LIST], False), (["- a. - b.", GOOD], True)]
)
def test_a_draft_that_is_no_brief_is_asked_for_once_more(learned: AppContext, texts: list[str], drafted: bool) -> None:
    writer: Any = Writer(*texts)
    draft = draft_brief(writer, learned.casebook, "disks")
    assert (draft.problem is None) is drafted
    assert len(writer.prompts) == len(texts)
    if drafted:
        assert draft.text == GOOD
    if len(texts) == 2:
        assert "Your last answer" in writer.prompts[1]
