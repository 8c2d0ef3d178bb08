"""What a bulk run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from agent.bulk.output import Detail, To
from agent.bulk.summary import ON_SCREEN
from agent.core.records import VERDICT_LABELS
from agent.core.requests import Explain
from agent.data.chunks import SIZE


@dataclass(frozen=True)
class BulkOptions:
    """Options of a bulk run.

    Attributes
    ----------
    files : tuple of str
        Paths; "-" is standard input.
    only : frozenset of str
        Labels whose records are written.
    explain, explain_rows : {"none", "facts", "llm"}
        Explanations of texts, and of records with fields or events, where they take far longer than judging.
    explain_found : bool
        Whether the first records with fields or events that are not normal are explained even so.
    listed : int
        Groups of each label, those with most records, whose first record has a whole verdict in the summary.
    calls : int or None
        Most calls of the language model.
    seconds : float or None
        Seconds after which the language model is not queried.
    lines : bool
        Whether records are written at all.
    csv_raw : bool
        Whether cells of CSV that a spreadsheet would compute stay as they are.
    chunk_size : int
        Bytes read at a time.
    """

    files: tuple[str, ...]
    source: str
    detail: Detail
    to: To
    only: frozenset[str] = frozenset(VERDICT_LABELS)
    explain: Explain = "facts"
    explain_rows: Explain = "facts"
    explain_found: bool = False
    listed: int = ON_SCREEN
    calls: int | None = None
    seconds: float | None = None
    lines: bool = True
    csv_raw: bool = False
    chunk_size: int = SIZE
