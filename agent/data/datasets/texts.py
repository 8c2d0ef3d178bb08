"""Loaders of texts: lines that begin with their label, and folders of mails."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from email.errors import MessageError
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from typing import Any

from agent.core.errors import InputError
from agent.data.datasets.files import Member, decode_text
from agent.data.datasets.rows import LabelRule, LeftOut, Part, Row, RowSet

_PARTS: Mapping[str, Part] = {"train": "train", "test": "test"}
# since 1970, from 1973 on: days of a month and hours are none
_SECONDS = re.compile(r"[0-9]{9,11}")
# lines in which a file must show that its lines have labels
_SHOWN = 1_000


def load_lines(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Lines whose first word is their label: a log, or texts behind a tab.

    Options: ``separator`` between label and text; ``labels``, where there are only these; ``word``, the number of the
    word that is a time in seconds; such lines are in the order of time.

    Raises
    ------
    InputError
        A file is empty, or its first lines have no labels.
    """
    separator, time_at = str(options.get("separator", " ")), options.get("word")
    labels = frozenset(options.get("labels", ()))
    members = [member for role in files.values() for member in role]
    for member in members:
        _check_lines(member, separator, labels, time_at)
    columns = ("text",) if time_at is None else ("time", "text")

    def read() -> Iterator[Row | LeftOut]:
        number = 0
        for member in members:
            for line in member.lines():
                text = decode_text(line.data.rstrip(b"\r"))
                if not text.strip():
                    continue
                number += 1
                found = _split_line(text, separator, labels, time_at)
                place = f"{member.path}:{line.number}"
                if isinstance(found, str):
                    yield LeftOut(found, place)
                    continue
                value, record, time = found
                cells = [record] if time_at is None else [time, record]
                # "-" is a label too
                label = rule.label(value)
                moment = None if time_at is None else float(number)
                yield LeftOut("no label", place) if label is None else Row(label, cells, time=moment)

    return RowSet(columns, read)


def _split_line(
    text: str, separator: str, labels: frozenset[str], time_at: int | None
) -> tuple[str, str, str | None] | str:
    """The label, the text and the time of a line; or why it has none."""
    value, found, record = text.partition(separator)
    if not found or not record.strip():
        return f"no {'tab' if separator == chr(9) else 'space'} and text behind the label"
    if labels and value.strip() not in labels:
        return f"the line does not begin with {' or '.join(sorted(labels))}"
    if time_at is None:
        return value, record.strip(), None
    words = text.split(maxsplit=time_at + 1)
    if len(words) <= time_at or not _SECONDS.fullmatch(words[time_at]):
        return f"word {time_at + 1} of the line is no time in seconds"
    return value, record.strip(), words[time_at]


def _check_lines(member: Member, separator: str, labels: frozenset[str], time_at: int | None) -> None:
    reason, example = "", ""
    for line in member.lines():
        text = decode_text(line.data)
        if text.strip():
            found = _split_line(text, separator, labels, time_at)
            if not isinstance(found, str):
                return
            reason, example = found, text
        if line.number >= _SHOWN:
            break
    if not reason:
        raise InputError("is empty", member.path)
    raise InputError(f"has no labelled lines: {reason}: {example.strip()[:80]!r}", member.path)


def load_mails(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Mails, one a file: subject and body; of the header nothing else, which would give the label away.

    The label is the name of the folder. With the option ``unlabelled`` there is none, and the mail's date is its time.
    """
    unlabelled = bool(options.get("unlabelled"))
    members = [(member, _PARTS.get(role)) for role, found in files.items() for member in found]
    parser = BytesHeaderParser()

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            subject, body, date = _parse_mail(parser, member.read())
            text = "\n".join(piece for piece in (subject, body) if piece)
            label = None if unlabelled else rule.label(member.folder)
            if not text:
                yield LeftOut("the text is empty", member.path, expected=True)
            else:
                yield Row(label, [date, text] if unlabelled else [text], part)

    return RowSet(("time", "text") if unlabelled else ("text",), read)


def _parse_mail(parser: BytesHeaderParser, data: bytes) -> tuple[str, str, str | None]:
    """The subject, the body and the date of a mail; a text without a header is the body."""
    message = parser.parsebytes(data)
    if not message.keys():
        return "", decode_text(data).strip(), None
    try:
        payload = message.get_payload(decode=True)
    except (MessageError, ValueError):
        payload = None
    body = decode_text(payload) if isinstance(payload, bytes) else str(message.get_payload())
    subject = " ".join(str(message.get("Subject", "")).split())
    try:
        moment = parsedate_to_datetime(str(message.get("Date")))
        date = moment.astimezone(UTC).isoformat() if moment.tzinfo else moment.isoformat()
    except (ValueError, TypeError, OverflowError):
        date = None
    return subject, body.strip(), date
