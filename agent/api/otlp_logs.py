"""Log records of the OpenTelemetry protocol (OTLP): decoding, their source, and each as a record to judge."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from pydantic import ValidationError

from agent.api.protobuf_schema import BASE64
from agent.core.errors import InputError, PrecedentError
from agent.core.requests import AnyRequest, format_validation_error, parse_request_fast
from agent.data.read_options import ReadOptions
from agent.data.readers.jsonl import flatten
from agent.data.readers.values import to_text
from agent.pipeline.context import AppContext

JSON, PROTOBUF = "application/json", "application/x-protobuf"
SOURCE, SERVICE = "precedent.source", "service.name"
_FILE = ("log.file.path", "log.file.name")
# columns of a source that the body of a record stands for, where it has no attribute of that name
_BODY_COLUMNS = ("body", "message", "msg", "text", "log")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS = 5
_LATEST_SECONDS = 253_402_300_799


class Parsed(NamedTuple):
    """What a body holds: the records to judge, how many there are no requests for, and the reasons, in order."""

    requests: list[AnyRequest]
    rejected: int
    reasons: list[str]


def unzipped(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content encoding.

    Raises
    ------
    InputError
        The encoding is not gzip, deflate or none, the body is not valid, or it is longer than ``limit`` bytes unpacked.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise InputError(f"the content encoding {encoding!r} is not known: send gzip, deflate or none")
    try:
        if encoding == "gzip":
            unpacked = gzip.GzipFile(fileobj=io.BytesIO(body)).read(limit + 1)
        else:
            # deflate is zlib's format in HTTP
            deflated = zlib.decompressobj()
            unpacked = deflated.decompress(body, limit + 1)
            if len(unpacked) <= limit and not deflated.eof:
                raise EOFError("it ends before its end marker")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the body is not valid {encoding}: {error}") from error
    if len(unpacked) > limit:
        raise InputError(f"the body is longer than {limit} bytes when it is unpacked")
    return unpacked


def decode(body: bytes, media_type: str) -> ExportLogsServiceRequest:
    """The message of a body.

    Raises
    ------
    InputError
        It is not one.
    """
    message = ExportLogsServiceRequest()
    try:
        if media_type == JSON:
            # the ids of traces, which JSON has in hexadecimal, are not used
            value = json.loads(body)
            _check_types(value, message.DESCRIPTOR)
            json_format.ParseDict(value, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"the body is not an ExportLogsServiceRequest as {media_type}: {error}") from error
    return message


def _check_types(value: Any, message: Descriptor) -> None:
    """Raise `ValueError` for what `json_format` passes over.

    That is a message that is no object, bytes that are no base64, and an enumeration that is no name or whole number.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{message.name} is not an object")
    for name, part in value.items():
        field = message.fields_by_camelcase_name.get(name) or message.fields_by_name.get(name)
        if field is None or part is None:
            continue
        if field.type == FieldDescriptor.TYPE_BYTES and not (isinstance(part, str) and re.fullmatch(BASE64, part)):
            raise ValueError(f"{name} is not in base64, nor in hexadecimal")
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and not _is_enum(part):
            raise ValueError(f"{name} is neither a name nor a whole number")
        if field.message_type is not None:
            for each in part if field.is_repeated and isinstance(part, list) else [part]:
                _check_types(each, field.message_type)


def _is_enum(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0)


def encode(message: Message, media_type: str) -> bytes:
    """A message as a body."""
    encoded: bytes = json_format.MessageToJson(message).encode() if media_type == JSON else message.SerializeToString()
    return encoded


def parse(context: AppContext, message: ExportLogsServiceRequest) -> Parsed:
    """The records of a message as requests.

    The source is the resource's attribute ``precedent.source``, else its ``service.name`` where a source has that name,
    else the only source that there is.
    """
    parsed, names = Parsed([], 0, []), set(context.casebook.names())
    rejected = 0
    for resource_logs in message.resource_logs:
        records = [record for scope_logs in resource_logs.scope_logs for record in scope_logs.log_records]
        if not records:
            continue
        resource = _values(resource_logs.resource.attributes)
        service = resource.get(SERVICE)
        chosen = resource.get(SOURCE) or (service if isinstance(service, str) and service in names else None)
        try:
            row = context.source(None if chosen is None else str(chosen))
        except PrecedentError as error:
            rejected += len(records)
            parsed.reasons.append(_which_source(str(error), chosen))
            continue
        options = ReadOptions.model_validate(row.reading or {})
        for record in records:
            try:
                parsed.requests.append(_request(row.name, options, record, context.settings.max_record_chars))
            except ValidationError as error:
                rejected += 1
                parsed.reasons.append(format_validation_error(error))
            except InputError as error:
                rejected += 1
                parsed.reasons.append(error.reason)
    return parsed._replace(rejected=rejected)


def _which_source(reason: str, chosen: Any) -> str:
    return reason if chosen else f"{reason} (resource attribute {SOURCE}, or {SERVICE} where a source has that name)"


def _request(source: str, options: ReadOptions, record: LogRecord, most_chars: int) -> AnyRequest:
    attributes = _values(record.attributes)
    sent: dict[str, Any] = {"source": source, **_content(_value(record.body), attributes, options)}
    if file := next((attributes[name] for name in _FILE if attributes.get(name)), None):
        sent["file"] = str(file)
    seconds, nanoseconds = divmod(record.time_unix_nano or record.observed_time_unix_nano, 10**9)
    if 0 < seconds <= _LATEST_SECONDS:
        time = _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
        sent["time"] = time.isoformat()
    return parse_request_fast(sent, most_chars)


def _content(body: Any, attributes: dict[str, Any], options: ReadOptions) -> dict[str, Any]:
    """The text or the fields of a record: the body, and those attributes that are columns of the source."""
    if isinstance(body, str) and options.format != "log":
        body = _json_object(body) or body
    columns = {column.name for column in options.table.columns} | set(options.text)
    if isinstance(body, dict) and not columns:
        # a source of texts: forwarders send a line as one key of an object, beside what they know of it
        body = next((body[name] for name in _BODY_COLUMNS if isinstance(body.get(name), str)), body)
    fields = {name: value for name, value in flatten(attributes).items() if name in columns}
    if isinstance(body, dict):
        return {"fields": {**fields, **flatten(body)}}
    text = "" if body is None else to_text(flatten({"body": body})["body"])
    if not fields:
        return {"text": text}
    of_body = next((name for name in _BODY_COLUMNS if name in columns and name not in fields), None)
    return {"fields": {**fields, of_body: text} if of_body and text else fields}


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    """The value in Python's types."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    plain = getattr(value, kind)
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain


def first_reasons(reasons: list[str]) -> Iterator[str]:
    """The first five different reasons; the rest as a number."""
    different = list(dict.fromkeys(reasons))
    yield from different[:_REASONS]
    if len(different) > _REASONS:
        yield f"{len(different) - _REASONS} other reasons"
