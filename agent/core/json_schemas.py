"""What JSON schemas say beyond types: the shape of sources' names, and that a record has content."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

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
