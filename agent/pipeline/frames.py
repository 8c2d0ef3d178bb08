"""A data frame in, the same data frame with verdicts out: of Polars or pandas."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from agent.core.errors import InputError, UsageError
from agent.core.records import JudgeError, Record, Verdict
from agent.core.requests import Explain
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.columns import expand
from agent.pipeline.context import AppContext, default_context
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

COLUMNS = ("label", "probability", "verdict_id", "explanation", "degraded")
FrameT = TypeVar("FrameT")
_Cells = dict[str, list[Any]]


def judge_frame(
    frame: FrameT,
    source: str | None = None,
    *,
    text: str | Sequence[str] | None = None,
    prefix: str = "",
    explain: Explain = "facts",
    context: AppContext | None = None,
) -> FrameT:
    """Judge each row of a data frame, as `precedent judge` judges the rows of a file.

    Parameters
    ----------
    frame : polars.DataFrame or pandas.DataFrame
        Its rows are records. The source's label column, if it is there, is not part of them.
    source : str, optional
        May be left out when there is only one.
    text : str or sequence of str, optional
        The columns that make the record; by default those that the source has learned.
    prefix : str
        Begins the names of the columns that are added.
    explain : {"none", "facts", "llm"}
        How much to explain.
    context : AppContext, optional
        What to judge with; by default what the process's settings name.

    Returns
    -------
    polars.DataFrame or pandas.DataFrame
        The same rows in the same order, with the same index, and the columns ``label``, ``probability``,
        ``verdict_id`` (of the history, for corrections), ``explanation`` and ``degraded`` (what could not be used;
        missing if nothing). A row that cannot be judged has no label, and the reason as its explanation.

    Raises
    ------
    UsageError
        The frame has a column of such a name already, or it is not clear which column is the text.
    InputError
        It lacks columns that the source has learned.
    TypeError
        It is neither a Polars nor a pandas DataFrame.
    ValueError
        ``explain`` is none of its values, or ``text`` names no column.
    """
    if explain not in get_args(Explain):
        raise ValueError(f"explain={explain!r} is none of {', '.join(get_args(Explain))}")
    names, rows = _rows_of(frame)
    added = [f"{prefix}{name}" for name in COLUMNS]
    if taken := [name for name in added if name in names]:
        raise UsageError(f"the frame has a column {taken[0]!r} already: choose a prefix for the verdicts' columns")
    context = context or default_context()
    row = context.source(source)
    options = _options_for(names, ReadOptions.model_validate(row.reading or {}), text)
    parsed = list(options.read_table(names, rows, context.settings.max_record_chars))
    cells: _Cells = {name: [] for name in added}
    for outcome in _outcomes(context, row.name, parsed, explain):
        for name, value in zip(added, _cells_of(outcome), strict=True):
            cells[name].append(value)
    return _with_cells(frame, cells)


def _options_for(names: Sequence[str], options: ReadOptions, text: str | Sequence[str] | None) -> ReadOptions:
    """The options of a source for a frame with columns ``names``; ``text`` as `judge_frame` gets it."""
    if options.format == "log" or names == [options.label]:
        # the label of a log is a place in the line, which the name of a column may look like: pandas has 0, 1, …
        options = options.model_copy(update={"label": None})
    if text is None:
        if not (options.text or options.table.columns) and len(names) > 1:
            raise UsageError(f"which column is the text? Name it with text=…; the frame has {', '.join(names)}")
        return options
    # pandas may have numbers for names
    columns = tuple(map(str, [text] if isinstance(text, str | int) else text))
    if not columns:
        raise ValueError("text names no column: leave it out for those that the source has learned")
    if lacking := [name for name in expand(columns, names) if name not in names]:
        raise InputError(f"no column {lacking[0]!r}; the frame has {', '.join(names)}")
    return options.model_copy(update={"text": columns})


def _outcomes(
    context: AppContext, source: str, parsed: Sequence[ParsedRow | RowError], explain: Explain
) -> Iterator[Verdict | JudgeError | RowError]:
    """A verdict for each row, or why there is none."""
    for item in parsed:
        for note in item.notes if isinstance(item, ParsedRow) else ():
            warnings.warn(f"row {item.line if isinstance(item, RowError) else item.record.line}: {note}", stacklevel=4)
    # a row has no place: the same content is the same record
    records = [_without_place(item.record) for item in parsed if isinstance(item, ParsedRow)]
    verdicts = judge_many(context, build(context), records, source, explain)
    for item in parsed:
        yield item if isinstance(item, RowError) else next(verdicts)


def _without_place(record: Record) -> Record:
    return record.model_copy(update={"file": None, "line": None})


def _cells_of(outcome: Verdict | JudgeError | RowError) -> tuple[Any, ...]:
    if isinstance(outcome, Verdict):
        degraded = "; ".join(outcome.degraded) or None
        return outcome.label, outcome.probability, outcome.id, outcome.explanation, degraded
    return None, None, None, outcome.reason, None


def _is_of(frame: object, package: str) -> bool:
    """Whether it is a data frame of that package, which is not imported here."""
    return type(frame).__name__ == "DataFrame" and type(frame).__module__.partition(".")[0] == package


def _rows_of(frame: object) -> tuple[list[str], Sequence[Mapping[str, Any]]]:
    if _is_of(frame, "polars"):
        polars_frame = cast("pl.DataFrame", frame)
        return polars_frame.columns, polars_frame.to_dicts()
    if _is_of(frame, "pandas"):
        pandas_frame = cast("pd.DataFrame", frame)
        names = [str(name) for name in pandas_frame.columns]
        if len(set(names)) < len(names):
            raise UsageError("the frame has two columns of one name: rename one of them")
        objects = pandas_frame.astype(object)
        values = objects.where(pandas_frame.notna(), None).to_numpy()
        return names, [dict(zip(names, row, strict=True)) for row in values.tolist()]
    raise TypeError(f"a DataFrame of Polars or pandas is expected, not {type(frame).__module__}.{type(frame).__name__}")


def _with_cells(frame: FrameT, cells: _Cells) -> FrameT:
    numbers = {name for name in cells if name.endswith(COLUMNS[1])}
    if _is_of(frame, "polars"):
        import polars as pl

        columns = [
            pl.Series(name, values, pl.Float64 if name in numbers else pl.String) for name, values in cells.items()
        ]
        return cast(FrameT, cast("pl.DataFrame", frame).with_columns(columns))
    import pandas as pd

    pandas_frame = cast("pd.DataFrame", frame)
    series = {
        name: pd.Series(values, pandas_frame.index, "float64" if name in numbers else "str")
        for name, values in cells.items()
    }
    # by `concat`, which keeps an index that has an entry twice
    return cast(FrameT, pd.concat([pandas_frame, pd.DataFrame(series, index=pandas_frame.index)], axis=1))
