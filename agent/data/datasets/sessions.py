"""Loaders of sessions: HDFS in the layouts that it is passed on in."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from agent.core.errors import InputError
from agent.data.datasets.files import Member, decode_text
from agent.data.datasets.rows import LabelRule, LeftOut, Part, Row, RowSet
from agent.data.datasets.tables import TableFile
from agent.data.readers.csv_rows import Dialect
from retrieval.text.masking import mask

COLUMNS = ("id", "events")
_BLOCK = re.compile(r"blk_-?\d+")
# date, time, thread, level, component
_HEADER = re.compile(r"\d{6} \d{6} \d+ [A-Z]+ \S+: ")
_DIGITS = re.compile(r"\d+")
_EVENT = re.compile(r"[^\s,\[\]'\"]+")
_ROLES: Mapping[str, tuple[Part, str]] = {
    "train_normal": ("train", "normal"),
    "train_abnormal": ("train", "anomalous"),
    "test_normal": ("test", "normal"),
    "test_abnormal": ("test", "anomalous"),
}


def load_blocks(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """The raw log with the labels of its blocks: the masked lines of a block, in their order, are a session.

    Sessions are ordered by their first line.

    Raises
    ------
    InputError
        The labels lack a column, or no line is one of HDFS.
    """
    labels = TableFile(files["labels"][0], Dialect(",", True))
    block_at, label_at = labels.position("BlockId"), labels.position("Label")
    by_block = {row.cells[block_at]: row.cells[label_at] for row in labels if not isinstance(row, LeftOut)}

    @cache
    def sessions() -> tuple[dict[str, array[int]], list[str], list[LeftOut]]:
        return _read_blocks(files["log"])

    def read() -> Iterator[Row | LeftOut]:
        blocks, templates, left_out = sessions()
        yield from left_out
        for number, (block, events) in enumerate(blocks.items()):
            label = rule.label(by_block.get(block, ""))
            if label is None:
                yield LeftOut("no label for the block", block)
            else:
                yield Row(label, [block, [templates[event] for event in events]], time=float(number))

    return RowSet(COLUMNS, read)


def _read_blocks(log: Sequence[Member]) -> tuple[dict[str, array[int]], list[str], list[LeftOut]]:
    """The events of each block as numbers of masked lines, these lines, and lines that are of no block."""
    numbers, left_out, masked = dict[str, int](), list[LeftOut](), dict[str, int]()
    blocks: dict[str, array[int]] = {}
    for member in log:
        for line in member.lines():
            text = decode_text(line.data).strip()
            if not text:
                continue
            names, header = dict.fromkeys(_BLOCK.findall(text)), _HEADER.match(text)
            if not names or header is None:
                reason = "the line names no block" if header else "not a line of HDFS"
                left_out.append(LeftOut(reason, f"{member.path}:{line.number}", expected=header is not None))
                continue
            content = _BLOCK.sub("<block>", text[header.end() :])
            # lines that differ in digits only are masked once
            key = _DIGITS.sub("0", content)
            if (number := masked.get(key)) is None:
                number = masked[key] = numbers.setdefault(mask(content), len(numbers))
            for name in names:
                blocks.setdefault(name, array("L")).append(number)
    if not blocks:
        raise InputError("has no line that names a block (blk_…)", log[0].path)
    return blocks, list(numbers), left_out


def load_traces(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """A table with the events of each block, ``[E5,E22,E5]``.

    Raises
    ------
    InputError
        A column is missing.
    """
    member = files["traces"][0]
    names = ("BlockId", "Label", "Features")
    for name in names:
        TableFile(member, Dialect(",", True)).position(name)

    def read() -> Iterator[Row | LeftOut]:
        table = TableFile(member, Dialect(",", True))
        block_at, label_at, events_at = map(table.position, names)
        for number, row in enumerate(table):
            if isinstance(row, LeftOut):
                yield row
                continue
            label, events = rule.label(row.cells[label_at]), _EVENT.findall(row.cells[events_at])
            if label is None or not events:
                yield LeftOut("no label" if label is None else "no events", f"{member.path}:{row.line}")
            else:
                yield Row(label, [row.cells[block_at], events], time=float(number))

    return RowSet(COLUMNS, read)


def load_sequences(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Files of event numbers, a session a line; the file shows the label and the part."""
    members = [(member, *values) for role, values in _ROLES.items() for member in files.get(role, ())]

    def read() -> Iterator[Row | LeftOut]:
        for member, part, label in members:
            for line in member.lines():
                events = decode_text(line.data).split()
                place = f"{member.path}:{line.number}"
                if not all(event.isdecimal() for event in events):
                    yield LeftOut("not a line of event numbers", place)
                elif events:
                    yield Row(label, [f"{member.name}:{line.number}", events], part)

    return RowSet(COLUMNS, read)


def load_events(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """JSON lines with ``events`` and ``label``."""
    parts: Mapping[str, Part] = {"train": "train", "test": "test"}
    members = [(member, parts.get(role)) for role, found in files.items() for member in found]

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            for line in member.lines():
                if not line.data.strip():
                    continue
                place = f"{member.path}:{line.number}"
                try:
                    value = json.loads(line.data)
                except ValueError:
                    yield LeftOut("not JSON", place)
                    continue
                events = value.get("events") if isinstance(value, dict) else None
                label = rule.label(str(value.get("label", ""))) if isinstance(value, dict) else None
                if not isinstance(events, list) or not events or label is None:
                    yield LeftOut("no label" if events else "no events", place)
                else:
                    yield Row(label, [value.get("id", place), events], part)

    return RowSet(COLUMNS, read)
