"""A note where the rate of anomalies in a batch differs from that of the cases; little is imported for it."""

from __future__ import annotations

import numpy as np

from agent.pipeline.context import AppContext
from agent.scoring.batch_rate import BatchProbabilities, rate_shift
from agent.training.kinds import are_lines_of_templates
from retrieval.casebook import SourceSnapshot


def note_on_rate(context: AppContext, source: str, batch: BatchProbabilities) -> str | None:
    """How the rate of anomalies in a batch that was judged without adaptation differs from the cases', in words."""
    if context.batch_sha256(source) is not None:
        return None
    row, cases = context.source(source), context.casebook.templates(source)
    labels, keys = context.casebook.keys_by_label(source), batch.keys_outside(cases)
    contents = [batch.contents(key) for key in keys]
    if is_by_text(row) and (are_lines_of_templates(contents) or are_lines_of_templates(cases.values())):
        return None
    shift = rate_shift(np.array([batch.by_key[key] for key in keys]), labels["normal"], labels["anomalous"])
    return f"{shift}; --adapt judges them with that rate" if shift else None


def is_by_text(row: SourceSnapshot) -> bool:
    """Whether records of a source are compared by their texts."""
    return row.representation is not None and row.representation.field_encoder is None
