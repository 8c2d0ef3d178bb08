"""The probabilities of answers: read from the listed tokens, whatever the model would rather say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from llm.base import read_answers
from llm.errors import ModelFailure, NoAnswer
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.engine import Engine

ANSWERS = ("anomalous", "normal")


def listed(**shares: float) -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    return {**top[0], "top_logprobs": top}


def test_all_tokens_that_begin_an_answer_add_up() -> None:
    answers = read_answers(
        listed(**{" Nor": 0.5, '"normal': 0.2, "An": 0.1, "no": 0.1, "not": 0.05, '"': 0.05}), ANSWERS
    )
    assert answers == pytest.approx({"normal": math.log(0.8), "anomalous": math.log(0.1)})


def test_an_answer_that_is_not_listed_is_as_likely_as_the_least_likely_token() -> None:
    answers = read_answers(listed(Normal=0.9, The=0.06, It=0.01), ANSWERS)
    assert answers == pytest.approx({"normal": math.log(0.9), "anomalous": math.log(0.01)})


@pytest.mark.parametrize(("share", "rest"), [(0.9, 0.1), (0.2, 0.2), (1.0, math.exp(-25))])
def test_a_single_token_leaves_the_rest_to_the_others(share: float, rest: float) -> None:
    answers = read_answers({"token": "normal", "logprob": math.log(share), "top_logprobs": []}, ANSWERS)
    assert answers == pytest.approx({"normal": math.log(share), "anomalous": math.log(rest)})


def test_no_answer_is_an_error_that_names_the_token() -> None:
    with pytest.raises(NoAnswer, match="begins with 'The'"):
        read_answers(listed(The=0.9, It=0.01), ANSWERS)


@pytest.mark.parametrize("number", [math.nan, math.inf, 400.0])
def test_what_is_no_log_probability_is_an_error(number: float) -> None:
    top = [{"token": "normal", "logprob": -0.1}, {"token": "anomalous", "logprob": number}]
    with pytest.raises(ModelFailure, match="may be damaged"):
        read_answers({**top[0], "top_logprobs": top}, ANSWERS)


@pytest.mark.parametrize("answers", [("zebra", "quartz"), ANSWERS])
def test_the_embedded_engine_reads_answers_far_below_the_likeliest_tokens(
    make_chat: Callable[..., EmbeddedChatModel], answers: tuple[str, ...]
) -> None:
    chat = make_chat()
    messages = [SystemMessage("Reply with a number."), HumanMessage("What is 40 + 2?")]
    log_probabilities = LlamaCppBackend(chat).answer_log_probabilities(messages, answers)
    weights = chat.weights
    engine = Engine(weights, context_tokens=1024, threads=None)
    engine.read(chat.prompt(messages), lambda: False)
    shares = np.exp(engine.logits().astype(np.longdouble))
    texts = [weights.piece(token, special=True).decode("utf-8", "replace") for token in range(len(shares))]
    top = {texts[token] for token in np.argsort(-shares)[:20]}
    for answer in answers:
        beginnings = {
            text for text in texts if (word := text.strip().strip("\"'*`").lower()) and answer.startswith(word)
        }
        if top & beginnings:
            beginnings &= top
        exact = sum(share for share, text in zip(shares, texts, strict=True) if text in beginnings) / shares.sum()
        assert log_probabilities[answer] == pytest.approx(math.log(exact), abs=1e-5)
    if answers != ANSWERS:
        assert max(log_probabilities.values()) < -5
    engine.close()
    chat.close()
