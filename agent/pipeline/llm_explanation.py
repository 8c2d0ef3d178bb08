"""Explanations in sentences of the language model, which are checked against the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from agent.core.errors import EXPECTED, describe
from agent.core.records import Verdict
from agent.explain.explanation import sentences
from agent.pipeline.context import AppContext
from llm.errors import EngineBusy, ModelFailure
from retrieval.encoding.representation import Representation


def sentences_for_stored_verdict(
    context: AppContext, verdict: Verdict, on_replaced: Callable[[str], None] | None = None
) -> Iterator[str]:
    """Sentences about a verdict of the history, whose explanation holds its facts; see `sentences`."""
    row = context.casebook.source(verdict.source)
    # verdicts stored without their facts: the joined facts cannot be separated, for facts quote texts
    facts = verdict.facts or (verdict.explanation.partition(": ")[2],)
    masked = ((row.representation if row else None) or Representation()).masked(verdict.record)
    return _sentences(context, verdict, row.brief if row else "", facts, masked, on_replaced)


def stream_explanation(context: AppContext, verdict: Verdict) -> Iterator[str]:
    """A verdict's facts, then the model's sentences, one a line; then why there are none, or what was replaced."""
    yield f"{verdict.explanation}\n"
    replaced = list[str]()
    try:
        for sentence in sentences_for_stored_verdict(context, verdict, replaced.append):
            yield f"{sentence}\n"
        for reason in replaced:
            yield f"(degraded: explanation: {reason})\n"
    except EXPECTED as error:
        yield f"(no sentences by the language model: {describe(error)})\n"


def with_sentences(context: AppContext, verdict: Verdict, brief: str, facts: Sequence[str], masked: str) -> Verdict:
    """The verdict with the model's checked sentences after its facts.

    ``degraded`` has the reason where there are none, or where one was replaced.
    """
    replaced = list[str]()
    try:
        text = " ".join(_sentences(context, verdict, brief, facts, masked, replaced.append))
    except (ModelFailure, EngineBusy) as error:
        return verdict.model_copy(update={"degraded": (*verdict.degraded, f"explanation: {error}")})
    degraded = (*verdict.degraded, *(f"explanation: {reason}" for reason in replaced))
    return verdict.model_copy(update={"explanation": f"{verdict.explanation} {text}".strip(), "degraded": degraded})


def _sentences(
    context: AppContext,
    verdict: Verdict,
    brief: str,
    facts: Sequence[str],
    masked: str,
    on_replaced: Callable[[str], None] | None,
) -> Iterator[str]:
    model, tokens = context.language_detector().model, context.settings.record_tokens // 2
    return sentences(model, tokens, verdict, brief, facts, masked, on_replaced=on_replaced)
