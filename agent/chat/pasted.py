"""Pasted text to requests: JSON, rows, lines, stack traces, a file by its path; and which source they are of."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agent.core.errors import UsageError
from agent.core.records import Record
from agent.core.requests import JudgeRequest, check_record_size, parse_request
from agent.data.read_options import ReadOptions
from agent.data.readers import RowError
from agent.data.readers.jsonl import flatten
from agent.data.record_reading import as_read
from agent.pipeline.context import AppContext

MAX_RECORDS = 50
MAX_OF_FILE = 200
_SAME, _LIKE, _GAP = 0.98, 0.6, 0.15
_TRACE = re.compile(r"^(?:\s+at \S|Traceback \(|Caused by: |\s+File \")", re.MULTILINE)
_PREFIX = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)>\s*(?P<rest>.+)$", re.DOTALL)


def split_prefix(message: str, names: list[str]) -> tuple[str | None, str]:
    """The source that a message begins with (``NAME> record``), and the rest."""
    prefix = _PREFIX.match(message)
    if prefix and prefix["name"] in names:
        return prefix["name"], prefix["rest"].strip()
    return None, message


def unknown_prefix(message: str) -> str | None:
    """The name before ``>``, where a message has the form of ``NAME> record``; a known source was tried before."""
    prefix = _PREFIX.match(message)
    return prefix["name"] if prefix and not prefix["name"].isdecimal() and prefix["name"][-1] not in "-." else None


def requests_of(message: str, source: str | None, max_chars: int) -> list[JudgeRequest]:
    """One request for each JSON object, stack trace or line.

    Raises
    ------
    UsageError
        There are more than `MAX_RECORDS`.
    """
    parsed = json_value(message)
    if isinstance(parsed, dict):
        return [_request(parsed, message, source, max_chars)]
    items: list[Any] = parsed if isinstance(parsed, list) else _entries(message)
    if len(items) > MAX_RECORDS:
        raise UsageError(
            f"{len(items)} lines are too many for the chat, which takes {MAX_RECORDS}",
            "`precedent judge FILE --source NAME` judges them all",
        )
    requests = []
    for item in items:
        fields = item if isinstance(item, dict) else json_value(item) if isinstance(item, str) else None
        text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
        requests.append(_request(fields if isinstance(fields, dict) else None, text, source, max_chars))
    return requests


def requests_of_file(path: Path, context: AppContext, source: str) -> Iterator[JudgeRequest | RowError]:
    """Requests for the first `MAX_OF_FILE` records of a file, as `precedent judge` reads it."""
    options = ReadOptions.model_validate(context.source(source).reading or {})
    for row in islice(options.read_unlabelled(path, context.settings.max_record_chars), MAX_OF_FILE):
        yield row if isinstance(row, RowError) else JudgeRequest.about(row.record, source)


def file_named(message: str) -> Path | None:
    """The file of this machine that a message is the path of."""
    text = message.strip().strip("\"'")
    if not text or "\n" in text or len(text) > 500 or not re.search(r"[/\\]|\.\w{2,8}$", text):
        return None
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def json_value(text: str) -> dict[str, Any] | list[Any] | None:
    """The text parsed as a JSON object or an array of objects and texts; None if it is none, or an empty one."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and all(isinstance(item, (dict, str)) for item in value):
        return value or None
    return value if isinstance(value, dict) and value else None


def is_row(text: str, context: AppContext, source: str) -> bool:
    """Whether a source's reader finds the fields of its records in a text."""
    options = ReadOptions.model_validate(context.source(source).reading or {})
    if not options.table.columns or "\n" in text.strip():
        return False
    return bool(as_read(Record(text=text), options).fields)


def likeness(text: str, context: AppContext, source: str) -> float:
    """The similarity of a text to the nearest case of a source; 1 if its template is known."""
    record = Record(text=text)
    options = ReadOptions.model_validate(context.source(source).reading or {})
    record = as_read(record, options)
    found = context.casebook.find(source, record, record.content_hash, 1)
    if any(found.same_template.values()):
        return 1.0
    return max((near.similarity for near in found.nearest), default=0.0)


def source_of(text: str, context: AppContext) -> str | None:
    """The one source whose records a text is clearly like; None if there is no such, or several."""
    names = context.casebook.names()
    if len(names) == 1:
        return names[0]
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first or len(text) > context.settings.max_record_chars:
        return None
    rows = [name for name in names if is_row(first, context, name)]
    if len(rows) == 1:
        return rows[0]
    near = sorted(((likeness(first, context, name), name) for name in names if name not in rows), reverse=True)
    if near and near[0][0] >= _LIKE and (len(near) == 1 or near[0][0] - near[1][0] >= _GAP):
        return near[0][1]
    return None


def _entries(message: str) -> list[str]:
    """The lines, or where there is a stack trace the entries, each with its trace."""
    if _TRACE.search(message):
        read = ReadOptions(format="log").read("-", 1 << 30, lenient=True, stdin=io.BytesIO(message.encode()))
        return [row.record.text for row in read if not isinstance(row, RowError)]
    return [line.strip() for line in message.splitlines() if line.strip()]


def _request(fields: dict[str, Any] | None, text: str, source: str | None, max_chars: int) -> JudgeRequest:
    if fields is None:
        request = parse_request({"source": source, "text": text}, max_chars)
    elif set(fields) <= {*JudgeRequest.model_fields, "record"} - {"explain"}:
        request = parse_request({"source": source, **fields}, max_chars)
    else:
        request = parse_request({"source": source, "fields": flatten(fields)}, max_chars)
    check_record_size(request.record, max_chars)
    return request
