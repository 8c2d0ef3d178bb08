from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from llm.llamacpp import engine as engine_module
from llm.llamacpp.chat_template import ChatTemplate, Prompt
from llm.llamacpp.engine import SAVED_PREFIXES, Cancelled, Engine, Logits, greedy, likeliest
from llm.llamacpp.generation import logprob_of
from llm.llamacpp.gguf import Weights

BRIEF = "Kernel log of a cluster. Normal: corrected memory errors. Anomalous: a job dies. "
RECORDS = ("ciod: failed to read message prefix", "instruction cache parity error corrected", "🔥 überlauf")


def never() -> bool:
    return False


@pytest.fixture
def engine(weights: Weights) -> Iterator[Engine]:
    made = Engine(weights, context_tokens=1024, threads=None)
    yield made
    made.close()


def ask(engine: Engine, prompt: Prompt) -> Logits:
    engine.read(prompt, never)
    return engine.logits().copy()


def prompts(weights: Weights, system: str) -> list[Prompt]:
    template = ChatTemplate(weights)
    return [template.prompt([SystemMessage(system), HumanMessage(record)]) for record in RECORDS]


def fresh(weights: Weights, prompt: Prompt) -> Logits:
    alone = Engine(weights, context_tokens=1024, threads=None)
    try:
        return ask(alone, prompt)
    finally:
        alone.close()


def test_the_same_bits_from_a_fresh_context_a_kept_prefix_and_a_restored_one(weights: Weights, engine: Engine) -> None:
    first, two = prompts(weights, BRIEF * 3), prompts(weights, "Payments. " * 20)
    expected = [fresh(weights, prompt) for prompt in first]
    assert not np.array_equal(expected[0], expected[1])
    for prompt, logits in zip(first, expected, strict=True):
        assert np.array_equal(ask(engine, prompt), logits)  # computed, then kept
    for prompt, logits in zip(first, expected, strict=True):
        ask(engine, two[0])
        assert engine.read(prompt, never).cached == len(prompt.prefix)
        assert np.array_equal(engine.logits(), logits)  # restored from a saved state
    for token in (1, 2, 3):
        engine.append(token)
    assert np.array_equal(ask(engine, first[0]), expected[0])  # after an answer was written behind it


def test_a_prefix_longer_than_a_block_gives_the_same_bits(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "BLOCK_TOKENS", 64)
    engine = Engine(weights, context_tokens=1024, threads=None)
    (prompt, *_), (other, *_) = prompts(weights, BRIEF * 8), prompts(weights, "Payments.")
    assert len(prompt.prefix) > 2 * 64
    expected = fresh(weights, prompt)
    for _ in range(2):
        ask(engine, other)
        assert np.array_equal(ask(engine, prompt), expected)
    engine.close()


def test_only_the_suffix_is_decoded_when_the_prefix_is_known(weights: Weights, engine: Engine) -> None:
    first, second, _ = prompts(weights, BRIEF)
    read = engine.read(first, never)
    assert (read.decoded, read.cached) == (len(first), 0)
    read = engine.read(second, never)
    assert (read.decoded, read.cached) == (len(second.suffix), len(second.prefix))


def test_the_oldest_saved_prefix_goes_first(weights: Weights, engine: Engine) -> None:
    sources = [prompts(weights, f"source {n}")[0] for n in range(SAVED_PREFIXES + 1)]
    for prompt in sources:
        engine.read(prompt, never)
    assert engine.read(sources[1], never).cached > 0
    assert engine.read(sources[0], never).cached == 0


def test_a_prompt_called_off_leaves_the_engine_sound(
    weights: Weights, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompts(weights, BRIEF)[0]
    expected = ask(engine, prompt)
    with pytest.raises(Cancelled):
        engine.read(prompts(weights, BRIEF)[1], lambda: True)
    assert np.array_equal(ask(engine, prompt), expected)
    monkeypatch.setattr(engine_module, "BLOCK_TOKENS", 8)
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        engine.read(prompts(weights, "another " * 30)[0], lambda: next(answers))
    monkeypatch.undo()
    assert np.array_equal(ask(engine, prompt), expected)


def test_log_probabilities_are_a_distribution_over_the_whole_vocabulary(weights: Weights, engine: Engine) -> None:
    logits = ask(engine, prompts(weights, BRIEF)[0])
    order = likeliest(logits, weights.vocabulary_size)
    assert sorted(order) == list(range(weights.vocabulary_size))
    everything = [entry["logprob"] for entry in logprob_of(weights, logits, weights.vocabulary_size)["top_logprobs"]]
    assert sum(np.exp(everything)) == pytest.approx(1, abs=1e-5)
    assert everything == sorted(everything, reverse=True)
    assert order[0] == greedy(logits)
    assert likeliest(logits, 5) == order[:5]
    exact = logits.astype(np.longdouble)
    exact -= np.log(np.exp(exact - exact.max()).sum()) + exact.max()
    assert everything[:20] == pytest.approx([float(exact[token]) for token in order[:20]], abs=1e-5)


def test_equals_are_taken_in_the_order_of_their_ids() -> None:
    logits = np.array([0.0, 2.0, 1.0, 2.0], dtype=np.float32)
    assert greedy(logits) == 1
    assert likeliest(logits, 3) == [1, 3, 2]
