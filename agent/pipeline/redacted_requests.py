"""Requests with placeholders: before a record is cut into segments, looked up in a cache or given back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from agent.core.requests import AnyRequest, JudgeRequest, TextRequest
from agent.data.readers.redacting import redacted_parts, redacted_text

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

R = TypeVar("R", JudgeRequest, TextRequest, AnyRequest)


def redacted_request(request: R, redactor: Redactor | None) -> R:
    """The request with placeholders in what its record will have of it."""
    if redactor is None:
        return request
    file, time = (None if part is None else redactor.text(part) for part in (request.file, request.time))
    if isinstance(request, TextRequest):
        return replace(request, text=redacted_text(redactor, request.text), file=file, time=time)
    text, fields, events = redacted_parts(redactor, request.text, request.fields, request.events)
    return request.model_copy(update={"text": text, "fields": fields, "events": events, "file": file, "time": time})
