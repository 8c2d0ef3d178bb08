"""Explanations in sentences of the language model, which are checked against the facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.core.errors import EXPECTED, describe
from agent.core.records import Verdict
from agent.explain.explanation import sentences
from agent.pipeline.context import AppContext
from llm.errors import EngineBusy, ModelFailure
from retrieval.encoding.representation import Representation


def sentences_for_stored_verdict(context: AppContext, verdict: Verdict) -> Iterator[str]:
    """Sentences about a verdict of the history, whose explanation holds its facts. Raises as `sentences` does."""
    row = context.casebook.source(verdict.source)
    # verdicts stored without their facts: the joined facts cannot be separated, for facts quote texts
    facts = verdict.facts or (verdict.explanation.partition(": ")[2],)
    masked = ((row.representation if row else None) or Representation()).masked(verdict.record)
    return _sentences(context, verdict, row.brief if row else "", facts, masked)


def stream_explanation(context: AppContext, verdict: Verdict) -> Iterator[str]:
    """A verdict's facts, then the model's sentences, one a line; without them a line with the reason."""
    yield f"{verdict.explanation}\n"
    try:
        for sentence in sentences_for_stored_verdict(context, verdict):
            yield f"{sentence}\n"
    except EXPECTED as error:
        yield f"(no sentences by the language model: {describe(error)})\n"


def with_sentences(context: AppContext, verdict: Verdict, brief: str, facts: Sequence[str], masked: str) -> Verdict:
    """The verdict with the model's checked sentences after its facts; without them ``degraded`` has the reason."""
    try:
        text = " ".join(_sentences(context, verdict, brief, facts, masked))
    except (ModelFailure, EngineBusy) as error:
        return verdict.model_copy(update={"degraded": (*verdict.degraded, f"explanation: {error}")})
    return verdict.model_copy(update={"explanation": f"{verdict.explanation} {text}".strip()})


def _sentences(context: AppContext, verdict: Verdict, brief: str, facts: Sequence[str], masked: str) -> Iterator[str]:
    return sentences(
        context.language_detector().model, context.settings.record_tokens // 2, verdict, brief, facts, masked
    )
