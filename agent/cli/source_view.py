"""What `precedent sources show` prints."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from agent.core.records import LABELS
from agent.core.terminal import escape_json, plural, print_line
from agent.data.read_options import ReadOptions
from agent.scoring.fusion import SourceModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.training.drift_findings import Drift
    from retrieval.casebook import SourceSnapshot

_MAX_COLUMNS = 40


def source(row: SourceSnapshot, drift: Drift, as_json: bool) -> None:
    """Print a source and its drift."""
    by_fields = bool(row.representation and row.representation.field_encoder)
    if as_json:
        model = {
            name: value
            for name, value in (row.source_model or {}).items()
            if name not in ("nn_distance_quantiles", "normal_field_encoder")
        }
        shown = {
            "name": row.name,
            "cases": row.counts,
            "casebook_version": row.version,
            "compared_by": "fields" if by_fields else "text",
            "brief": row.brief,
            "brief_by": row.brief_by,
            "reading": row.reading and ReadOptions.model_validate(row.reading).model_dump(mode="json"),
            "judge": model,
        }
        print(escape_json(json.dumps({**shown, "drift": drift.model_dump()}, ensure_ascii=False), sys.stdout))
        return
    print_line(f"source: {row.name}")
    counts = ", ".join(f"{row.counts[label]:,} {label}" for label in LABELS)
    print_line(f"cases: {counts}; compared by {'fields' if by_fields else 'text'}; casebook version {row.version}")
    print_line(f"brief: {row.brief} (by {row.brief_by})" if row.brief else "brief: none")
    for line in (*_reading(row), *_judging(row)):
        print_line(line)
    for finding in drift.findings or [f"none, by the last {plural(drift.records, 'record')} judged"]:
        print_line(f"drift: {finding}", "yellow")
    if drift.findings:
        commands = (
            f"what to do: precedent sources propose {row.name}",
            f"label some: precedent review --source {row.name}",
            "correct one: precedent correct ID normal|anomalous",
            f"rebuild: precedent sources rebuild {row.name}",
        )
        print_line(f"({'; '.join(commands)})", "dim")


def _reading(row: SourceSnapshot) -> Iterator[str]:
    """How its files are read."""
    if not row.reading:
        return
    options = ReadOptions.model_validate(row.reading)
    text = ", ".join(options.text) or options.table.text_column or "every column"
    label = f", label {options.label} (normal: {', '.join(options.normal)})" if options.label is not None else ""
    entries = "" if options.multiline == "auto" else f", entries begin at {options.multiline}"
    yield f"files: {options.format} format, text {text}{label}{entries}"
    if options.redact is not None:
        yield f"redacted: {', '.join(options.redact.kinds)}"
    columns = [f"{column.name} ({column.type})" for column in options.table.columns]
    if columns:
        more = f" and {len(columns) - _MAX_COLUMNS} more" if len(columns) > _MAX_COLUMNS else ""
        yield f"columns: {', '.join(columns[:_MAX_COLUMNS])}{more}"
    for name, why in options.table.left_out.items():
        yield f"left out: column {name!r}, {why}"


def _judging(row: SourceSnapshot) -> Iterator[str]:
    """How its records are judged."""
    if row.source_model is None:
        cases = any(row.counts.values())
        yield (
            f"fitted: never; its verdicts are incomplete (fit it: precedent sources refit {row.name})"
            if cases
            else ("fitted: never")
        )
        return
    model = SourceModel.of(row.source_model, row.counts)
    fusion = model.with_llm if model.with_llm.weights.get("language") else model.without_llm
    weights = ", ".join(f"{name} {weight:.2g}" for name, weight in fusion.weights.items())
    low, high = fusion.band
    yield f"weights of the signals: {weights} (threshold optimises {model.objective})"
    yield f"normal below a probability of {low:.2f}, anomalous from {high:.2f} on, unsure between"
    yield f"language model: {model.language_unused or f'{model.model} is queried'}"
    if model.challenged_on:
        yield f"at casebook version {model.challenged_on} a newer fit was worse than this one, and was not taken"
    for note in model.notes:
        yield f"note: {note}"
