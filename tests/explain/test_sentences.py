"""The sentences of a model that states the opposite of the verdict never reach a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.llm_explanation import sentences_for_stored_verdict, stream_explanation, with_sentences
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings
from tests.shop import ANOMALOUS, BRIEF, LOG


class Model:
    """Writes a text, a few characters at a time."""

    name, text = "embedded:test", ""

    def clip(self, text: str, max_tokens: int) -> tuple[str, bool]:
        return text, False

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        yield from (self.text[i : i + 7] for i in range(0, len(self.text), 7))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppContext]:
    (tmp_path / "shop.log").write_text(LOG, encoding="utf-8")
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    options = ReadOptions(format="log", label="0", normal=("-",))
    learn(made, [tmp_path / "shop.log"], "shop", options, brief=BRIEF)
    yield made
    made.close()


def written(context: AppContext, monkeypatch: pytest.MonkeyPatch, text: str) -> tuple[Any, list[str], list[str]]:
    """A verdict of *anomalous*, the sentences about it of a model that writes ``text``, and what was replaced."""
    verdict = build(context).invoke({"text": ANOMALOUS, "source": "shop", "explain": "facts"})
    assert verdict.label == "anomalous"
    model = Model()
    model.text = text
    monkeypatch.setattr(context, "language_detector", lambda: SimpleNamespace(model=model))
    replaced = list[str]()
    return verdict, list(sentences_for_stored_verdict(context, verdict, replaced.append)), replaced


def test_what_agrees_is_shown_as_it_is(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sentences, replaced = written(context, monkeypatch, "It reports a failure of the disk. It is anomalous.")
    assert (sentences, replaced) == (["It reports a failure of the disk.", "It is anomalous."], [])


def test_what_contradicts_is_replaced_once_and_named_everywhere(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The record is normal. It reports a failure of the disk. This is a normal event."
    verdict, sentences, replaced = written(context, monkeypatch, text)
    template, other = sentences
    assert template.startswith("Anomalous, ")
    assert other == "It reports a failure of the disk."
    assert replaced == [
        "what the language model wrote contradicted the verdict in the label: fixed words stand in its place"
    ]
    streamed = "".join(stream_explanation(context, verdict))
    assert "is normal" not in streamed
    assert streamed.endswith(f"\n(degraded: explanation: {replaced[0]})\n")
    whole = with_sentences(context, verdict, BRIEF, verdict.facts, verdict.record.text)
    assert whole.degraded == (f"explanation: {replaced[0]}",)
    assert "is normal" not in whole.explanation
    assert template in whole.explanation
