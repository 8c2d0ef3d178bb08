"""What the language model of the settings is fit for in a conversation: calling tools, writing sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.pipeline.context import AppContext
from llm.errors import ModelFailure

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

# below it, sentences that pass the check of ids and numbers are often false, and tools are called wrongly
_LARGE = 3_000_000_000


@dataclass(frozen=True)
class ChatModelTraits:
    """Traits of the language model.

    Attributes
    ----------
    writes_reliably : bool
        Whether it is large enough for its sentences to be shown.
    ollama : tuple of str or None
        The server and name of a large model that calls tools.
    """

    writes_reliably: bool = False
    ollama: tuple[str, str] | None = None

    @classmethod
    def of(cls, context: AppContext) -> ChatModelTraits:
        """The traits of the model that the settings name; those of none where it is not available."""
        if context.settings.model == "none" or context.settings.model.startswith("embedded:"):
            # the models of the catalog are small
            return cls()
        try:
            name = context.language_detector().model.name
        except ModelFailure:
            return cls()
        kind, _, model = name.partition(":")
        if kind != "ollama":
            return cls()
        from llm.ollama.client import traits_of
        from llm.ollama.urls import parse_hosts

        host = parse_hosts(context.settings.ollama_hosts)[0]
        try:
            traits = traits_of(host, model)
        except ModelFailure:
            return cls()
        large = (traits.parameters or 0) >= _LARGE
        return cls(large, (host, model) if large and traits.calls_tools else None)


def tool_model(context: AppContext) -> BaseChatModel | None:
    """A chat model that calls tools, if the settings name one that is large enough."""
    served = ChatModelTraits.of(context).ollama
    if served is None:
        return None
    import httpx
    from langchain_ollama import ChatOllama

    from llm.ollama.client import CONNECT_SECONDS
    from llm.ollama.urls import base_url

    host, name = served
    settings = context.settings
    timeout = httpx.Timeout(settings.request_timeout, connect=CONNECT_SECONDS)
    return ChatOllama(
        base_url=base_url(host),
        model=name,
        temperature=0.0,
        seed=0,
        num_ctx=settings.context_tokens,
        num_thread=settings.threads,
        client_kwargs={"timeout": timeout},
    )
