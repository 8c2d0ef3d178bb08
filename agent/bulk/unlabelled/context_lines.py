"""The lines around the first record of each event, from the files again."""

from __future__ import annotations

from collections.abc import Sequence

from agent.bulk.unlabelled.models import ContextLine, Event
from agent.core.records import clean_text
from agent.data.chunks import read_chunks
from agent.data.readers.byte_stream import Damaged, opened

_MOST_CHARS = 500


def read_context(events: Sequence[Event], around: int) -> list[tuple[ContextLine, ...]]:
    """By event: so many lines before and after its first record's first line, that one included.

    Files that are no sequences of lines (Parquet), and standard input, have none.
    """
    wanted: dict[str, set[int]] = {}
    for event in events:
        file, line = event.example.file, event.example.line
        if around and file and file != "-" and line and not file.endswith(".parquet"):
            wanted.setdefault(file, set()).update(range(max(1, line - around), line + around + 1))
    found = {(file, line): text for file, lines in wanted.items() for line, text in _lines(file, lines).items()}
    contexts = []
    for event in events:
        file, line = event.example.file, event.example.line or 0
        places = range(line - around, line + around + 1)
        contexts.append(
            tuple(ContextLine(line=place, text=found[file or "", place]) for place in places if (file, place) in found)
        )
    return contexts


def _lines(file: str, wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    last = max(wanted)
    with opened(file) as stream:
        try:
            for chunk in read_chunks(stream):
                here = sorted(line for line in wanted if chunk.first <= line < chunk.first + chunk.lines)
                if here:
                    lines = chunk.data.split(b"\n")
                    for line in here:
                        text = lines[line - chunk.first].rstrip(b"\r").decode("utf-8", "replace")
                        found[line] = clean_text(text)[:_MOST_CHARS]
                if chunk.first + chunk.lines > last:
                    break
        except Damaged:
            # said when the file was first read
            pass
    return found
