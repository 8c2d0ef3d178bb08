"""The embedded language model: a GGUF file in this process, as a LangChain chat model."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from llm.base import TOP_LOGPROBS
from llm.errors import ModelFailure
from llm.llamacpp.chat_template import ChatTemplate, Prompt
from llm.llamacpp.engine import Engine
from llm.llamacpp.generation import Options, Step, Summary, answer
from llm.llamacpp.gguf import Weights
from llm.llamacpp.truncation import clip_exactly
from llm.llamacpp.worker import InferenceThread, Job


class EmbeddedChatModel(BaseChatModel):
    """A chat model on llama.cpp. The weights are loaded at the first call.

    Decoding is greedy; a reply does not depend on earlier or concurrent calls. Every call takes the keywords
    ``max_tokens``, ``logprobs``, ``top_logprobs`` (as with ``bind``; the metadata then has the shape that Ollama
    returns), ``answers``, ``adapter`` (see `llm.llamacpp.generation.Options`) and ``few_shot`` (see
    `ChatTemplate.prompt`).
    Calls raise ModelFailure (the file cannot be loaded, the prompt exceeds the context, the model was closed) and
    EngineBusy (the queue stays full).
    """

    model_path: Path
    """The .gguf file."""
    model_sha256: str
    """Its SHA-256, for provenance; `llm.weights.resolver` has checked it."""
    model: str = ""
    """The name in the metadata of replies; the file's name without its ending if empty."""
    context_tokens: int = Field(4096, ge=16)
    """Tokens of prompt and reply together."""
    threads: int | None = Field(None, ge=1)
    """Processor cores to use; None: all that are available to the process."""
    gpu_layers: int | None = Field(None, ge=0)
    """Layers on a GPU; None: all where llama.cpp was built for one."""
    queue_size: int = Field(64, ge=1)
    """Calls that may wait beside the one that runs."""
    queue_timeout: float = Field(30.0, ge=0)
    """Seconds that a call waits for a place in the queue."""
    max_tokens: int = Field(256, ge=1)
    """Tokens of a reply, at most."""

    _worker: InferenceThread = PrivateAttr()
    _loading: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _weights: Weights | None = PrivateAttr(None)
    _template: ChatTemplate | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Set up the inference thread; the engine is made at its first job."""
        super().model_post_init(context)
        # The worker must not keep this object alive, or it would never be collected and closed.
        reference = weakref.ref(self)

        def make() -> Engine:
            model = reference()
            if model is None:
                raise ModelFailure("the language model was closed")
            return Engine(model.weights, context_tokens=model.context_tokens, threads=model.threads)

        self._worker = InferenceThread(make, queue_size=self.queue_size, queue_timeout=self.queue_timeout)
        weakref.finalize(self, self._worker.close)

    @property
    def weights(self) -> Weights:
        """The weights, loaded at first use. Raises ModelFailure."""
        with self._loading:
            if self._weights is None:
                self._weights = Weights(self.model_path, gpu_layers=self.gpu_layers)
            return self._weights

    def close(self) -> None:
        """Free the engine: the running call fails at its next token, waiting ones at once."""
        self._worker.close()

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        """See `llm.llamacpp.truncation.clip_exactly`."""
        return clip_exactly(self.weights, text, max_tokens)

    def prompt(self, messages: Sequence[BaseMessage], few_shot: bool = False) -> Prompt:
        """Return the token ids of ``messages``, see `ChatTemplate.prompt`."""
        weights = self.weights
        with self._loading:
            if self._template is None:
                self._template = ChatTemplate(weights)
        return self._template.prompt(messages, few_shot)

    @property
    def _llm_type(self) -> str:
        return "llama.cpp"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        fields = {"model_sha256", "context_tokens", "max_tokens"}
        return {"model": self.model or self.model_path.stem, **self.model_dump(include=fields)}

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, **kwargs))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        few_shot: bool = False,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        job = Job[Step | Summary]()
        try:
            self._submit(job, messages, self._options(stop, **kwargs), few_shot)
            while (event := job.get()) is not None:
                yield self._chunk(event)
        finally:
            job.cancel()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        few_shot: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        job = Job[Step | Summary]()
        try:
            # Loading, tokenising and waiting take time: not on the event loop.
            await asyncio.to_thread(self._submit, job, messages, self._options(stop, **kwargs), few_shot)
            while (event := await asyncio.to_thread(job.get)) is not None:
                yield self._chunk(event)
        finally:
            job.cancel()

    def _options(
        self,
        stop: Sequence[str] | None,
        *,
        max_tokens: int | None = None,
        logprobs: bool = False,
        top_logprobs: int = TOP_LOGPROBS,
        answers: Sequence[str] = (),
        adapter: Path | None = None,
    ) -> Options:
        return Options(
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            stop=tuple(stop or ()),
            top_logprobs=top_logprobs if logprobs else None,
            answers=tuple(answers),
            adapter=adapter,
        )

    def _submit(self, job: Job[Step | Summary], messages: list[BaseMessage], options: Options, few_shot: bool) -> None:
        prompt, weights = self.prompt(messages, few_shot), self.weights
        excess = len(prompt) + options.max_tokens - self.context_tokens
        if excess > 0:
            raise ModelFailure(
                f"the prompt has {len(prompt)} tokens, {excess} too many: the context holds {self.context_tokens} "
                f"less {options.max_tokens} for the answer"
            )
        self._worker.submit(job, lambda engine, cancelled: answer(engine, weights, prompt, options, cancelled))

    def _chunk(self, event: Step | Summary) -> ChatGenerationChunk:
        if isinstance(event, Step):
            return ChatGenerationChunk(
                message=AIMessageChunk(content=event.text),
                generation_info=None if event.logprob is None else {"logprobs": [event.logprob]},
            )
        name, read = self.model or self.model_path.stem, event.prefill.decoded + event.prefill.cached
        usage = UsageMetadata(input_tokens=read, output_tokens=event.tokens, total_tokens=read + event.tokens)
        return ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=usage, chunk_position="last"),
            generation_info={
                "model": name,
                "model_name": name,
                "model_sha256": self.model_sha256,
                "model_provider": "llama.cpp",
                "done_reason": event.reason,
                "prompt_eval_count": event.prefill.decoded,
                "prompt_cached_count": event.prefill.cached,
                "eval_count": event.tokens,
            },
        )
