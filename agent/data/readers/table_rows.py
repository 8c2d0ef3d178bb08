"""Rows that are in memory, of a data frame: read as the rows of a Parquet file are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.data.readers.jsonl import flatten, parse_object
from agent.data.readers.row import ParsedRow, ReadRequest, RowError


def with_columns(request: ReadRequest, names: Sequence[str], first: Mapping[str, Any] | None) -> ReadRequest:
    """The request for a table with columns ``names``, whose ``first`` row shows what nested columns hold.

    Raises
    ------
    InputError
        The table lacks learned columns, or one that is named.
    """
    known = list(dict.fromkeys([*names, *(flatten(first) if first else ())]))
    request = request.matched(known)
    learned = list(request.with_learned_names(dict.fromkeys(known)))
    request.restricted_to(learned).check_columns(learned)
    return request


def read_table_rows(rows: Iterable[Mapping[str, Any]], request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row by `with_columns`' request; the line of a record is the number of its row, from 1."""
    for line, row in enumerate(rows, start=1):
        yield parse_object(request, line, row, ids=())
