"""Messages of conversations with placeholders, as the records that they may hold."""

from __future__ import annotations

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext


def redacted_message(context: AppContext, text: str) -> str:
    """A message without what any source redacts: which source a message is about is known only from all of them."""
    for name in context.casebook.names():
        row = context.casebook.source(name)
        redactor = ReadOptions.model_validate((row.reading if row else None) or {}).redactor
        if redactor is not None:
            text = redactor.text(text)
    return text
