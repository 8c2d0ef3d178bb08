"""What JSON schemas say beyond types: the shape of sources' names and of series, and that a record has content."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, WithJsonSchema

# of the shape that every name of a source has; names of another shape are names of no source
SOURCE_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
SourceName = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{SOURCE_NAME}$"})]
# what the schema of a record says beside its keys: one of them has content
HAS_CONTENT: dict[str, Any] = {
    "anyOf": [
        {"required": ["text"], "properties": {"text": {"type": "string", "pattern": "\\S"}}},
        {"required": ["fields"], "properties": {"fields": {"type": "object", "minProperties": 1}}},
        {"required": ["events"], "properties": {"events": {"type": "array", "minItems": 1}}},
        {"required": ["series"], "properties": {"series": {"type": "object"}}},
    ]
}
# a text that is a whole record
RECORD_TEXT: dict[str, Any] = {"type": "string", "pattern": "\\S"}
SERIES_VALUES: dict[str, Any] = {
    "type": "array",
    "minItems": 2,
    "items": {"type": ["number", "null"]},
    "description": "As many under each name",
}
ISO_8601: dict[str, Any] = {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}


def _iso_8601(sent: object) -> datetime:
    if isinstance(sent, datetime):
        return sent
    if isinstance(sent, str):
        with suppress(ValueError):
            return datetime.fromisoformat(sent)
    raise ValueError("a time or a date in ISO 8601 is expected")


# pydantic itself reads numbers as well, as seconds since 1970
IsoTime = Annotated[datetime, BeforeValidator(_iso_8601), WithJsonSchema(ISO_8601)]
SERIES_START: dict[str, Any] = {
    "type": "string",
    "anyOf": [*ISO_8601["anyOf"], {"pattern": r"^-?[0-9]{1,15}(?:\.[0-9]{1,9})?$"}],
}


def without_parts(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model for an OpenAPI document that has the schemas of its parts."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema
