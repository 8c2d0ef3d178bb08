"""Activations are read, and an adapter of rank one changes the reply by as much as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from llm.errors import ModelFailure
from llm.llamacpp.activations import ActivationReader
from llm.llamacpp.adapter import LowRank, adapter_file
from llm.llamacpp.chat_template import ChatTemplate
from llm.llamacpp.engine import Engine
from llm.llamacpp.gguf import Weights

REPLIES = ("anomalous", "normal")


def conversation(record: str) -> list[BaseMessage]:
    example = [HumanMessage("disk full"), AIMessage("anomalous")]
    return [SystemMessage("Say normal or anomalous."), *example, HumanMessage(record)]


@pytest.fixture
def reader(weights: Weights) -> Iterator[ActivationReader]:
    made = ActivationReader(weights, REPLIES, context_tokens=256, threads=1)
    yield made
    made.close()


def log_odds(weights: Weights, adapter: Path | None, record: str) -> float:
    engine = Engine(weights, context_tokens=256, threads=1)
    engine.use(adapter)
    engine.read(ChatTemplate(weights).prompt(conversation(record), few_shot=True), lambda: False)
    first = [weights.tokenize(reply, special=False)[0] for reply in REPLIES]
    logits = engine.logits()
    difference = float(logits[first[0]] - logits[first[1]])
    engine.close()
    return difference


def test_an_adapter_adds_to_the_log_odds_where_its_input_is(
    weights: Weights, reader: ActivationReader, tmp_path: Path
) -> None:
    records = ["pump 3 is broken", "all is well", "fan 2 cleaned", "smoke in hall 4", "belt 7 torn", "test passed"]
    read = [reader.read(conversation(record)) for record in records]
    assert [each.log_odds for each in read] == pytest.approx([log_odds(weights, None, text) for text in records])
    again = reader.read(conversation(records[0]))
    assert np.array_equal(again.inner, read[0].inner)
    # the direction of the residual by which the log-odds change, from these records alone
    residual = np.stack([each.residual for each in read])
    size = np.sqrt(np.mean(residual**2, axis=1))
    direction = np.linalg.lstsq(residual, np.array([each.log_odds for each in read]) * size, rcond=None)[0]
    # 1 at the first record, 0 at the second one
    first, second = read[0].inner, read[1].inner
    apart = first - (first @ second) / (second @ second) * second
    pull = LowRank.outer(direction / (direction @ direction) * float(size[0]), apart / (apart @ first))
    name = f"blk.{weights.layers - 1}.ffn_down.weight"
    (tmp_path / "a.gguf").write_bytes(adapter_file(weights.architecture, {name: pull}))
    for i, expected in ((0, 1.0), (1, 0.0)):
        moved = log_odds(weights, tmp_path / "a.gguf", records[i]) - read[i].log_odds
        assert moved == pytest.approx(expected, abs=0.3)


def test_replies_are_read_token_by_token(weights: Weights, reader: ActivationReader) -> None:
    read = reader.read_reply(conversation("pump 3 is broken"), "anomalous, probably")
    assert len(read) == len(weights.tokenize("anomalous, probably", special=False))
    assert not np.array_equal(read[0], read[1])


def test_what_cannot_be_read_or_added_is_an_error(weights: Weights, reader: ActivationReader, tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="context 256"):
        reader.read(conversation("pump " * 300))
    with pytest.raises(ModelFailure, match="same token"):
        ActivationReader(weights, ("normal", "normal"), context_tokens=64)
    nothing = LowRank.outer(np.zeros(4, dtype=np.float32), np.zeros(4, dtype=np.float32))
    for architecture, name in (("bert", "blk.0.ffn_down.weight"), (weights.architecture, "blk.0.ffn_down.weight")):
        (tmp_path / "other.gguf").write_bytes(adapter_file(architecture, {name: nothing}))
        engine = Engine(weights, context_tokens=64, threads=1)
        with pytest.raises(ModelFailure, match="not an adapter"):
            engine.use(tmp_path / "other.gguf")
        engine.close()
