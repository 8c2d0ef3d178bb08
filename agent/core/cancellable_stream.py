"""A blocking stream for a listener who may leave: then the language model stops between two tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import Context, ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook


class ListenerDisconnected(Exception):
    """Nobody hears the answer any more; LangChain logs it, and the generation ends with it."""


class _Listener(BaseCallbackHandler):
    """Stops the language model between two tokens when the one who asked has gone."""

    raise_error = True
    run_inline = True

    def __init__(self) -> None:
        self.gone = threading.Event()

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        if self.gone.is_set():
            raise ListenerDisconnected("the model was stopped")


_LISTENER: ContextVar[_Listener | None] = ContextVar("precedent_listener", default=None)
register_configure_hook(_LISTENER, inheritable=True)
_END = object()


async def stream_in_thread(pieces: Iterator[str]) -> AsyncIterator[str]:
    """A blocking generator, each step in a thread; leaving early stops the model, then closes it.

    The steps run in a context of their own, so that who watches this agent's runs sees what it says, not what
    the model said before it was checked.
    """
    listener, context = _Listener(), Context()
    context.run(_LISTENER.set, listener)
    loop = asyncio.get_running_loop()
    while True:
        step = loop.run_in_executor(None, lambda: context.run(next, pieces, _END))
        try:
            piece = await asyncio.shield(step)
            if piece is _END:
                return
            yield str(piece)
        except BaseException:
            listener.gone.set()
            step.add_done_callback(lambda ended: _close(ended, pieces))
            raise


def _close(ended: asyncio.Future[Any], pieces: Iterator[str]) -> None:
    if not ended.cancelled():
        ended.exception()
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
