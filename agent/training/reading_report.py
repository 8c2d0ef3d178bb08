"""The reading before learning: all files once, to find out how their columns are read, and what looks odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from agent.core.errors import InputError, UsageError
from agent.core.progress import Progress
from agent.core.records import Label, Record
from agent.data.read_options import ReadOptions
from agent.data.readers import DEFAULT_NORMAL, ParsedRow, RowError
from agent.data.readers.table_schema import TableSchema
from agent.data.record_reading import as_read
from agent.data.table_survey import TableReport, TableSurvey
from agent.training.prompt_selection import roc_auc

_PREVIEWED, _MAX_ERRORS = 3, 20
_EVERY = 5_000
# AUC of a column that is left out from which on that is said
_TELLING = 0.8
# names that columns of labels have
_LABELS = frozenset({"label", "labels", "class", "target", "y", "anomaly", "is_anomaly", "outlier", "is_outlier"})
# values of the label column that are named and remembered
VALUES_SHOWN = 50


@dataclass
class ReadingReport:
    """What reading found.

    Attributes
    ----------
    options : ReadOptions
        How the files are read, with the columns that were found.
    records, events, unreadable : int
        Records that were read, those of them that are sessions, and rows that could not be read.
    labels, label_values : Counter[str]
        Records by label, and by the value of the label column.
    table : TableReport
        The columns.
    errors : list[RowError]
        The first of the rows that could not be read.
    preview : list[tuple[Label or None, Record]]
        The first records as the models see them.
    """

    options: ReadOptions
    records: int = 0
    sessions: int = 0
    unreadable: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    label_values: Counter[str] = field(default_factory=Counter)
    table: TableReport | None = None
    errors: list[RowError] = field(default_factory=list)
    preview: list[tuple[Label | None, Record]] = field(default_factory=list)


def survey(
    files: Sequence[str | Path],
    options: ReadOptions,
    max_chars: int,
    *,
    stdin: BinaryIO | None = None,
    progress: Progress | None = None,
) -> ReadingReport:
    """Read all files once; see `ReadingReport`.

    Parameters
    ----------
    files
        The files; each must have the columns of those before it, and those that the source was learned from.
    options
        How to read them.
    max_chars
        The most characters of a text.
    stdin
        Standard input, if it is one of the files; it is read from its beginning each time.

    Raises
    ------
    InputError
        A file cannot be read at all, or lacks columns.
    """
    done, columns, earlier = ReadingReport(options), TableSurvey(), options.table
    for path in files:
        columns.next_file()
        for item in options.read(path, max_chars, stdin=_rewound(stdin), raw=True):
            if isinstance(item, RowError):
                done.unreadable += 1
                done.errors += [item] if len(done.errors) < _MAX_ERRORS else []
                continue
            done.records += 1
            done.sessions += bool(item.record.events)
            done.labels[item.label or ""] += 1
            done.label_values[item.label_value or ""] += 1
            if item.record.fields:
                columns.add(item.record.fields, item.label)
            columns.add_row(item.text_column, item.beside)
            if progress and done.records % _EVERY == 0:
                progress("reading", done.records, 0)
        # a part of the records having fields is no table: a log with some lines of the form "name is value"
        schema = columns.of_texts(done.records)
        if columns.records * 2 > done.records:
            done.table = columns.report(columns.columns if options.text else earlier.names, earlier.left_out)
            found = _notes_on_left_out(done.table.schema, columns)
            done.table = replace(done.table, remarks=(*done.table.remarks, *found))
            schema = done.table.schema
        if schema is not None:
            options = options.model_copy(update={"table": schema.joined(earlier)})
    done.options = options
    _preview(done, files, max_chars, stdin)
    return done


def _notes_on_left_out(schema: TableSchema, columns: TableSurvey) -> Iterator[str]:
    """Which columns that are left out tell the labels apart."""
    for name in schema.left_out:
        known = [(numbers[name], label == "anomalous") for label, numbers in columns.sample if name in numbers]
        auc = roc_auc(*zip(*known, strict=True)) if known else None
        if auc is not None and max(auc, 1 - auc) >= _TELLING:
            yield (
                f"{name}: left out, but it tells these labels apart (AUC {max(auc, 1 - auc):.2f}): if it is no time "
                f"and no number of a row, name the columns to keep with --text"
            )


def _preview(done: ReadingReport, files: Sequence[str | Path], max_chars: int, stdin: BinaryIO | None) -> None:
    rows = (row for path in files for row in done.options.read(path, max_chars, stdin=_rewound(stdin)))
    first = islice((row for row in rows if isinstance(row, ParsedRow)), _PREVIEWED)
    done.preview = [(row.label, as_read(row.record, done.options)) for row in first]


def _rewound(stdin: BinaryIO | None) -> BinaryIO | None:
    if stdin is not None:
        stdin.seek(0)
    return stdin


def probable_labels(files: Sequence[str | Path], options: ReadOptions, max_chars: int) -> str:
    """The column of the first file whose name says that it holds labels, as a part of a message; empty if none does."""
    if options.is_labelled or str(files[0]) == "-":
        return ""
    with suppress(InputError):
        for row in options.read(files[0], max_chars, lenient=True, raw=True):
            if isinstance(row, ParsedRow):
                names = (*row.record.fields, *row.beside)
                return next((f" (is it {name!r}?)" for name in names if name.strip().casefold() in _LABELS), "")
    return ""


def check_normal(read_options: ReadOptions, report: ReadingReport) -> None:
    """Raise if no record is normal by the default values and the user named none."""
    if read_options.normal == DEFAULT_NORMAL and not report.labels["normal"] and len(report.label_values) > 1:
        values = ", ".join(value for value, _ in report.label_values.most_common(VALUES_SHOWN))
        raise UsageError(
            f"which values of {read_options.label} mean normal? Name them with --normal VALUE; it holds {values}"
        )
