"""A blocking stream for a client that may disconnect: the language model then stops between two tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from agent.core.access import carry_caller


class ClientGone(Exception):
    """The client has disconnected; it ends the generation, and LangChain logs it."""


class _StopCallback(BaseCallbackHandler):
    """Stops the language model between two tokens when the answer is no longer needed."""

    raise_error = True
    run_inline = True

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        if self._is_cancelled():
            raise ClientGone("the model was stopped")


_CALLBACK: ContextVar[_StopCallback | None] = ContextVar("precedent_stop_callback", default=None)
register_configure_hook(_CALLBACK, inheritable=True)
_END = object()


@contextmanager
def stop_model_when(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Within it, the language model stops between two tokens once ``is_cancelled`` is true; `ClientGone` is raised."""
    token = _CALLBACK.set(_StopCallback(is_cancelled))
    try:
        yield
    finally:
        _CALLBACK.reset(token)


async def stream_in_thread(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Iterate over a blocking generator, each step in a thread; leaving early stops the model and closes it.

    The steps run in a separate context, so that observers of the agent's runs get its answers, not the model's output
    before it is checked.
    """
    gone, context = threading.Event(), Context()
    context.run(_CALLBACK.set, _StopCallback(gone.is_set))
    carry_caller(context)
    loop = asyncio.get_running_loop()
    while True:
        step = loop.run_in_executor(None, lambda: context.run(next, pieces, _END))
        try:
            piece = await asyncio.shield(step)
            if piece is _END:
                return
            yield str(piece)
        except BaseException:
            gone.set()
            step.add_done_callback(lambda ended: _close(ended, pieces))
            raise


def _close(ended: asyncio.Future[Any], pieces: Iterator[str]) -> None:
    if not ended.cancelled():
        ended.exception()
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
