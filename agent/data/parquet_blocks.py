"""Parquet in blocks, where one column of strings is the text: that and the time are read by array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from agent.data.blocks import TEXT, TIME, Block, BlockTable, noting
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.format_detection import PARQUET_MAGIC
from agent.data.readers.jsonl import EVENTS, as_log_object, parse_object, to_cell
from agent.data.readers.parquet import FAILURES, batches, first_line
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.table_rows import with_columns
from agent.data.readers.values import to_text

# rows of a block
_ROWS = 65_536
_IN_TEXT = r"[\x00-\x1f\ufeff]"


def open_parquet_blocks(stream: Stream, request: ReadRequest) -> BlockTable | None:
    """Parquet in blocks; None if its records are not the text of one column, or it is read from a pipe."""
    path = stream.path
    if path is None or not stream.starts_with(PARQUET_MAGIC):
        return None
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        first = frame.head(1).collect().to_dicts()
    except FAILURES:
        # reading one by one says what is wrong
        return None
    names = {request.table.renamed.get(name, name): name for name in schema.names()}
    if not first or EVENTS in schema or as_log_object(first[0], request) is not None or len(names) < len(schema):
        return None
    request = with_columns(request, schema.names(), first[0])
    names = {request.table.renamed.get(name, name): name for name in schema.names()}
    of_file = request.restricted_to(names)
    columns = of_file.columns_of(tuple(names), request.table.excluded(()))
    if len(columns) != 1 or columns[0] in request.table.notations or schema.get(names.get(columns[0], "")) != pl.String:
        return None
    text, time = columns[0], time_column(names)
    wanted = [name for name in dict.fromkeys((text, time, request.label)) if name in names]
    chosen = frame.select(pl.col(names[name]).alias(name) for name in wanted)
    blocks = noting(request, _blocks(chosen, request, text, time))
    return BlockTable(request, [TEXT], TIME, is_text=True, blocks=blocks, time_of=_time_of)


def _time_of(cell: object) -> str | None:
    return to_text(to_cell(cell)).strip() or None


def _blocks(frame: pl.LazyFrame, request: ReadRequest, text: str, time: str | None) -> Iterator[Block]:
    done = 0
    try:
        for batch in batches(frame, _ROWS):
            column = batch.get_column(text)
            fits = ~column.str.contains(_IN_TEXT) & (column.str.strip_chars() != "")
            fits = (fits & (column.str.len_chars() <= request.max_chars)).fill_null(value=False)
            moments = batch.get_column(time) if time else pl.Series([None] * len(batch), dtype=pl.String)
            numbers = np.arange(done + 1, done + 1 + len(batch))
            certain, rest = fits.to_numpy(), list[ParsedRow | RowError]()
            for line, row in zip(numbers[~certain].tolist(), batch.filter(~fits).iter_rows(named=True), strict=True):
                rest.append(parse_object(request, line, row, ids=()))
            read = pl.DataFrame({TEXT: column, TIME: moments}).filter(fits)
            done += len(batch)
            yield Block(read, numbers[certain], rest)
    except FAILURES as error:
        raise Damaged(f"cannot be read any further: {first_line(error)}", done + 1) from error
