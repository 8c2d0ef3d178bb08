"""The pipeline as a LangChain Runnable, to compose with others (LCEL) and to serve by LangServe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig

from agent.core.records import Verdict
from agent.core.requests import JudgeRequest, coerce_request

if TYPE_CHECKING:
    from agent.pipeline.batcher import MicroBatcher
    from agent.pipeline.pipeline import Pipeline


class VerdictRunnable(Runnable[Any, Verdict]):
    """From a `JudgeRequest`, its dict, a `Record` or a text to a `Verdict`; `invoke` judges a batch of one.

    `batch` judges all records together. Callbacks see each `invoke` as one run.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    @property
    def InputType(self) -> type[JudgeRequest]:  # noqa: N802
        """The declared type of the input."""
        return JudgeRequest

    @property
    def OutputType(self) -> type[Verdict]:  # noqa: N802
        """The type of the output."""
        return Verdict

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Verdict:
        """Judge one record, as a batch of one."""
        return self._call_with_config(lambda sent: self.batch([sent])[0], input, config)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Verdict]:
        """Judge all inputs together; the verdicts are in the order of ``inputs``."""
        return [verdict for _, verdict in self.batch_as_completed(inputs, return_exceptions=return_exceptions)]

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Verdicts with their places, in the order of ``inputs``, each as soon as it is known."""
        requests = [coerce_request(sent) for sent in inputs]
        yield from self.pipeline.batch_as_completed(requests, return_exceptions=return_exceptions)


class BatchedVerdictRunnable(Runnable[Any, Verdict]):
    """The same by way of a `MicroBatcher`: with its admission, its cache and the history."""

    InputType, OutputType = VerdictRunnable.InputType, VerdictRunnable.OutputType

    def __init__(self, batcher: MicroBatcher) -> None:
        self._batcher = batcher

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Verdict:
        """From a thread without an event loop."""
        return asyncio.run(self.ainvoke(input, config))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Verdict:
        """Judge one record."""

        async def judge(sent: Any) -> Verdict:
            return (await self.abatch([sent]))[0]

        return await self._acall_with_config(judge, input, config)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Verdict]:
        """Judge all inputs together; the verdicts are in the order of ``inputs``."""
        return await self._batcher.judge([coerce_request(sent) for sent in inputs])
