"""The way of a record, from what was sent to a verdict. Read `build` first: it is the architecture.

    what was sent -> Hearing -> precedents -> signals -> (language, when undecided) -> verdict -> explanation

The steps are in `steps`; `batch` takes many records through the same steps together. Each is a pure function of the
state so far and of the source, so that invoke, batch, stream and their async twins give the same verdict, in any order
and from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
)
from pydantic import PrivateAttr

from agent.core.records import Verdict
from agent.core.requests import JudgeRequest, coerce_request, needs_segments, split_into_segments
from agent.pipeline.batch import BatchPipeline
from agent.pipeline.context import AppContext
from agent.pipeline.steps import JudgingState, Steps

T = TypeVar("T")


class BatchingSequence(RunnableSequence[Any, Verdict]):
    """A pipeline whose `batch` takes the records through its ``steps`` together, in order (`agent.pipeline.batch`).

    Callbacks and the other settings of ``config`` are for `invoke` alone; here nobody watches single steps.
    ``skip_llm_reason``: as `agent.pipeline.batch.Together.answers`.
    """

    _together: BatchPipeline = PrivateAttr()

    @classmethod
    def of(cls, pipeline: Runnable[Any, Verdict], steps: Steps) -> BatchingSequence:
        assert isinstance(pipeline, RunnableSequence)
        made = cls(first=pipeline.first, middle=pipeline.middle, last=pipeline.last)
        made._together = BatchPipeline(steps)
        return made

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        skip_llm_reason: str | None = None,
        **kwargs: Any,
    ) -> list[Verdict]:
        every = self.batch_as_completed(inputs, return_exceptions=return_exceptions, skip_llm_reason=skip_llm_reason)
        return [answer for _, answer in every]

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        skip_llm_reason: str | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        for place, answer in enumerate(
            self._together.answers([coerce_request(sent) for sent in inputs], skip_llm_reason)
        ):
            if isinstance(answer, Exception) and not return_exceptions:
                raise answer
            yield place, answer


def build(context: AppContext) -> Runnable[Any, Verdict]:
    """The pipeline: what was sent (`JudgeRequest`, its dict, a `Record` or a text) to a `Verdict`."""
    return build_batching(context).with_types(input_type=JudgeRequest, output_type=Verdict)


def build_batching(context: AppContext) -> BatchingSequence:
    """The pipeline, with the steps of many records together at hand."""
    steps = Steps(context)
    witnesses = RunnableParallel(
        hearing=RunnablePassthrough(),
        neighbours=_one(steps.neighbours),
        novelty=_step(steps.novelty),
        fields=_step(steps.fields),
    )
    hear: Runnable[JudgingState, JudgingState] = (
        _one(steps.retrieve)
        | _one(steps.score_fields)
        | witnesses
        | _step(steps.collect_signals)
        | RunnableBranch((_step(steps.llm_may_decide), _step(steps.ask_language_model)), RunnablePassthrough())
        | _step(steps.remember)
    )
    heard = _one(steps.open) | RunnableBranch((_step(steps.remembered), _step(steps.recall)), hear)
    whole: Runnable[Any, Verdict] = (
        _step(coerce_request)
        | RunnableBranch(
            (_step(needs_segments), _step(split_into_segments) | heard.map() | _step(steps.most_anomalous_segment)),
            heard,
        )
        | _step(steps.decide)
        | _step(steps.explain)
    )
    return BatchingSequence.of(whole, steps)


def _step(function: Callable[..., T]) -> Runnable[Any, T]:
    """A step of the pipeline; what it takes is typed where it is written."""
    return RunnableLambda(cast(Callable[[Any], T], function), name=function.__name__)


def _one(many: Callable[[Sequence[Any]], list[T]]) -> Runnable[Any, T]:
    """A step that takes a list, for one."""
    return RunnableLambda(lambda one: many([one])[0], name=many.__name__)
