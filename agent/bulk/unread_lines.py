"""Lines of a chunk that are no records and not blank: of a labelled log, those that are nothing but a label."""

from __future__ import annotations

import numpy as np

from agent.bulk.hash_table import GroupNumbers
from agent.bulk.prepared_chunk import PreparedChunk
from agent.bulk.template_grouping import BLANK
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.byte_stream import Stream
from agent.data.readers.lines import RawLine
from agent.data.readers.log import parse_entry, read_log


def unread_lines(prepared: PreparedChunk, numbers: GroupNumbers) -> list[RowError]:
    """Why lines without a group were not read; blank ones are left out."""
    chunk, request = prepared.chunk, prepared.request
    indices = np.flatnonzero(numbers == BLANK)
    if request.label is None or not indices.size:
        return []
    items: list[ParsedRow | RowError | None]
    if prepared.lines is None:
        items = [*read_log(Stream(iter([chunk.data])), request, first_line=chunk.first)]
    else:
        found = zip(indices.tolist(), prepared.lines.gather(indices).to_list(), strict=True)
        items = [parse_entry(RawLine(chunk.first + index, line.encode()), request) for index, line in found]
    return [item for item in items if isinstance(item, RowError)]
