"""Messages of the Model Context Protocol as clients send them: what cannot be read is answered, on either transport."""

from __future__ import annotations

import json
import re
from typing import Any

import mcp.types as types

from agent.api.bodies import describe_json_error, storable_json
from agent.core.records import clean_text

# what Python's parser may reject by another error than its own, and escapes that neither the package nor a store takes
_SUSPECT = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)|\d{4000}")
_DEEP = 400


class UnreadableMessage(ValueError):
    """A message that cannot be read.

    Attributes
    ----------
    answer : dict
        What its sender gets: a JSON-RPC error.
    """

    def __init__(self, code: int, reason: str, identifier: Any = None) -> None:
        super().__init__(reason)
        known = identifier if _is_id(identifier) else None
        self.answer = {"jsonrpc": "2.0", "id": known, "error": {"code": code, "message": clean_text(reason)}}


def readable(body: bytes) -> bytes:
    """The body of a request as a parser reads it without another error than its own: written anew if it is suspect.

    Raises
    ------
    UnreadableMessage
        It is not JSON here, or a request with an id that no answer can have.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _not_json(error) from error
    if not body:
        return body
    value = _parsed(body)
    _check_id(value)
    return storable_json(value).encode() if _is_suspect(body) else body


def read_message(line: bytes) -> types.JSONRPCMessage:
    """The message of a line.

    Raises
    ------
    UnreadableMessage
        It is none.
    """
    value = _parsed(line)
    _check_id(value)
    if _is_suspect(line):
        value = _parsed(storable_json(value).encode())
    try:
        return types.JSONRPCMessage.model_validate(value)
    except ValueError as error:
        identifier = value.get("id") if isinstance(value, dict) else None
        reason = "it is no message of JSON-RPC 2.0: a request has jsonrpc, id, method and, as an object, params"
        raise UnreadableMessage(types.INVALID_REQUEST, reason, identifier) from error


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _check_id(message: Any) -> None:
    """Refuse a request whose id is neither text nor an integer; the package would take it for a notification."""
    if isinstance(message, dict) and {"id", "method"} <= message.keys() and not _is_id(message["id"]):
        raise UnreadableMessage(types.INVALID_REQUEST, "the id of a request is a text or an integer")


def _is_suspect(body: bytes) -> bool:
    return _SUSPECT.search(body) is not None or body.count(b"[") + body.count(b"{") > _DEEP


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from error


def _not_json(error: ValueError | RecursionError) -> UnreadableMessage:
    return UnreadableMessage(types.PARSE_ERROR, f"the body cannot be read: {describe_json_error(error)}")
