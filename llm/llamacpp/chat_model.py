"""The embedded language model: a GGUF file inside this process, as a LangChain chat model."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from llm.errors import ModelFailure
from llm.llamacpp.chat_template import ChatTemplate, Prompt
from llm.llamacpp.engine import Engine
from llm.llamacpp.generation import Options, Step, Summary, answer
from llm.llamacpp.gguf import Weights
from llm.llamacpp.truncation import clip_exactly
from llm.llamacpp.worker import Call, Finished, InferenceThread

Event = Step | Summary
EngineCall = Call[Engine, Event]


class EmbeddedChatModel(BaseChatModel):
    """A chat model on llama.cpp. Making one is cheap: the weights are loaded at the first call.

    Answers are greedy and do not depend on what was asked before or at the same time. Every call takes the
    keywords ``max_tokens``, ``logprobs`` and ``top_logprobs`` (as with ``bind``). Calls raise ModelFailure
    (no such model, a prompt too long for the context, closed) and EngineBusy (the queue stays full).
    """

    model_path: Path
    """The .gguf file."""
    model_sha256: str
    """Its SHA-256, for provenance; checked by `llm.weights.resolver`, not here."""
    model: str = ""
    """The name that answers bear; the file's name without its ending if empty."""
    context_tokens: int = Field(4096, ge=16)
    """Room for prompt and answer."""
    threads: int | None = Field(None, ge=1)
    """Cores to compute on; None: all that the process may use."""
    queue_size: int = Field(64, ge=1)
    """Calls that may wait."""
    queue_timeout: float = Field(30.0, ge=0)
    """Seconds that one more call waits for a place."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, besides those of the call."""
    top_logprobs: int = Field(20, ge=1)
    """Likeliest tokens listed at each place when a call asks for ``logprobs``."""

    _owner: InferenceThread[Engine] = PrivateAttr()
    _loading: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _weights: Weights | None = PrivateAttr(None)
    _template: ChatTemplate | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        # The owner must not keep this object alive, or it would never be collected and closed.
        this = weakref.ref(self)

        def make() -> Engine:
            model = this()
            if model is None:
                raise ModelFailure("the language model is gone")
            return Engine(model.weights, context_tokens=model.context_tokens, threads=model.threads)

        self._owner = InferenceThread(make, queue_size=self.queue_size, queue_timeout=self.queue_timeout)
        weakref.finalize(self, self._owner.close)

    @property
    def weights(self) -> Weights:
        """The loaded weights; loads them if need be. Raises ModelFailure."""
        with self._loading:
            if self._weights is None:
                self._weights = Weights(self.model_path)
            return self._weights

    def close(self) -> None:
        """End the engine: the running call stops at its next token, waiting ones fail."""
        self._owner.close()

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` as the content of a message."""
        return len(self.weights.tokenize(text, special=False))

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        """``text`` in at most ``max_tokens`` tokens, head and tail kept, and how many tokens were dropped."""
        return clip_exactly(self.weights, text, max_tokens)

    def prompt(self, messages: Sequence[BaseMessage]) -> Prompt:
        """The token ids of ``messages`` as the model's template gives them; see `ChatTemplate.prompt`."""
        weights = self.weights
        with self._loading:
            if self._template is None:
                self._template = ChatTemplate(weights)
        return self._template.prompt(messages)

    @property
    def _llm_type(self) -> str:
        return "llama.cpp"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model or self.model_path.stem,
            "model_sha256": self.model_sha256,
            "context_tokens": self.context_tokens,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(list(self._events(messages, self._options(stop, **kwargs))))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        events = self._aevents(messages, self._options(stop, **kwargs))
        return self._result([event async for event in events])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        events = self._events(messages, self._options(stop, **kwargs))
        try:
            for event in events:
                yield self._chunk(event)
        finally:
            events.close()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        events = self._aevents(messages, self._options(stop, **kwargs))
        try:
            async for event in events:
                yield self._chunk(event)
        finally:
            await events.aclose()

    def _options(
        self,
        stop: Sequence[str] | None,
        *,
        max_tokens: int | None = None,
        logprobs: bool = False,
        top_logprobs: int | None = None,
        answers: Sequence[str] = (),
    ) -> Options:
        return Options(
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            stop=(*self.stop, *(stop or ())),
            top_logprobs=(top_logprobs or self.top_logprobs) if logprobs else None,
            answers=tuple(answers),
        )

    def _call(
        self, messages: list[BaseMessage], options: Options, deliver: Callable[[Event | Finished], None]
    ) -> EngineCall:
        """Queue the answer to ``messages``; raises ModelFailure when it cannot fit the context."""
        prompt = self.prompt(messages)
        if len(prompt) + options.max_tokens > self.context_tokens:
            raise ModelFailure(
                f"the prompt has {len(prompt)} tokens, {len(prompt) + options.max_tokens - self.context_tokens} "
                f"too many: the context holds {self.context_tokens} less {options.max_tokens} for the answer"
            )
        weights = self.weights
        call: EngineCall = Call(lambda engine, cancelled: answer(engine, weights, prompt, options, cancelled), deliver)
        self._owner.submit(call)
        return call

    def _events(self, messages: list[BaseMessage], options: Options) -> Generator[Event, None, None]:
        arrived: queue.SimpleQueue[Event | Finished] = queue.SimpleQueue()
        call = self._call(messages, options, arrived.put)
        try:
            while not isinstance(event := arrived.get(), Finished):
                yield event
        finally:
            call.cancel()
        if event.error is not None:
            raise event.error

    async def _aevents(self, messages: list[BaseMessage], options: Options) -> AsyncGenerator[Event, None]:
        arrived: asyncio.Queue[Event | Finished] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        gone = threading.Event()

        def deliver(event: Event | Finished) -> None:
            # Once the listener is gone its loop may be closed, and a closed loop takes no calls.
            if not gone.is_set():
                loop.call_soon_threadsafe(arrived.put_nowait, event)

        # Loading, tokenising and waiting for a place take time that the event loop has not got.
        queueing = asyncio.ensure_future(asyncio.to_thread(self._call, messages, options, deliver))
        try:
            await asyncio.shield(queueing)
            while not isinstance(event := await arrived.get(), Finished):
                yield event
        finally:
            gone.set()
            queueing.add_done_callback(_cancel_queued)
        if event.error is not None:
            raise event.error

    def _chunk(self, event: Event) -> ChatGenerationChunk:
        if isinstance(event, Step):
            return ChatGenerationChunk(
                message=AIMessageChunk(content=event.text),
                generation_info=None if event.logprob is None else {"logprobs": [event.logprob]},
            )
        return ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=_usage(event), chunk_position="last"),
            generation_info=self._metadata(event),
        )

    def _result(self, events: list[Event]) -> ChatResult:
        *steps, summary = events
        if not isinstance(summary, Summary):
            raise TypeError("an answer ends with its summary")
        text = "".join(step.text for step in steps if isinstance(step, Step))
        logprobs = [step.logprob for step in steps if isinstance(step, Step) and step.logprob is not None]
        message = AIMessage(content=text, usage_metadata=_usage(summary))
        info = self._metadata(summary) | ({"logprobs": logprobs} if logprobs else {})
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])

    def _metadata(self, summary: Summary) -> dict[str, Any]:
        name = self.model or self.model_path.stem
        return {
            "model": name,
            "model_name": name,
            "model_sha256": self.model_sha256,
            "model_provider": "llama.cpp",
            "done_reason": summary.reason,
            "prompt_eval_count": summary.prefill.decoded,
            "prompt_cached_count": summary.prefill.cached,
            "eval_count": summary.tokens,
        }


def _usage(summary: Summary) -> UsageMetadata:
    read = summary.prefill.decoded + summary.prefill.cached
    return UsageMetadata(input_tokens=read, output_tokens=summary.tokens, total_tokens=read + summary.tokens)


def _cancel_queued(queueing: asyncio.Future[EngineCall]) -> None:
    """Call off what was queued, also when the listener went while it was still being queued."""
    if not queueing.cancelled() and queueing.exception() is None:
        queueing.result().cancel()
