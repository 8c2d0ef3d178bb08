"""The pipeline as a LangChain Runnable, to compose with others (LCEL) and to serve by LangServe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from agent.core.records import Verdict
from agent.core.requests import JudgeRequest, coerce_request
from agent.pipeline.pipeline import Pipeline


class VerdictRunnable(Runnable[Any, Verdict]):
    """From a `JudgeRequest`, its dict, a `Record` or a text to a `Verdict`; `invoke` judges a batch of one.

    `batch` judges all records together. Callbacks see each `invoke` as one run.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    @property
    def InputType(self) -> type[JudgeRequest]:  # noqa: N802
        return JudgeRequest

    @property
    def OutputType(self) -> type[Verdict]:  # noqa: N802
        return Verdict

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Verdict:
        return self._call_with_config(lambda sent: self.batch([sent])[0], input, config)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Verdict]:
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
        for place, outcome in enumerate(self.pipeline.judge([coerce_request(sent) for sent in inputs])):
            if isinstance(outcome, Exception) and not return_exceptions:
                raise outcome
            yield place, outcome
