"""Messages of conversations with placeholders, as the records that they may hold."""

from __future__ import annotations

from agent.data.redaction import Redaction
from agent.pipeline.context import AppContext


def redacted_message(context: AppContext, text: str) -> str:
    """A message without what any source redacts: which source a message is about is known only from all of them."""
    for reading in context.casebook.readings().values():
        if reading and (stored := reading.get("redact")):
            text = Redaction.model_validate(stored).redactor.text(text)
    return text
