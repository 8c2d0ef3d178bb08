"""Rows that are alike for a person: of other values than the normal cases have in the same fields."""

from __future__ import annotations

from dataclasses import dataclass

from agent.bulk.series_chart import group_name
from agent.core.records import Verdict
from agent.scoring.fusion import SourceModel
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_encoder import FieldEncoder, features

# fields that name a group, those that are farthest out first
_MOST_FIELDS = 2
_VALUE_CHARS = 40


@dataclass(frozen=True)
class AlikeRows:
    """Names the group of a row; ``encoder``: of the normal cases' fields, None where records are compared by text."""

    encoder: FieldEncoder | None

    @classmethod
    def of(cls, row: SourceSnapshot) -> AlikeRows:
        """The groups of a source's records."""
        model = SourceModel.of(row.source_model, row.counts)
        by_fields = row.representation is not None and row.representation.field_encoder is not None
        fitted = model.normal_field_encoder if by_fields else None
        return cls(FieldEncoder.from_json(fitted) if fitted else None)

    def name(self, template: str, verdict: Verdict) -> str:
        """The fields of a row that no normal case has such values of, or else its nearest case of the same label.

        ``template``: the id of the record's template, which names its group where records are compared by text.
        """
        record = verdict.record
        if record.series is not None:
            return group_name(verdict)
        if self.encoder is None or not (record.fields or record.events):
            return template
        found = list[tuple[float, str]]()
        row = features(record.fields, record.events)
        for name, knots in self.encoder.numbers.items():
            value, low, high = row.get(name), knots[0], knots[-1]
            span = (high - low) or max(abs(high), 1.0)
            if isinstance(value, str):
                found.append((float("inf"), f"{name} is no number"))
            elif value is not None and float(value) > high:
                found.append(((float(value) - high) / span, f"{name} above {high:g}, the most of the normal cases"))
            elif value is not None and float(value) < low:
                found.append(((low - float(value)) / span, f"{name} below {low:g}, the least of the normal cases"))
        for name, known in self.encoder.categories.items():
            value = row.get(name)
            if value is not None and str(value) not in known:
                found.append((0.5, f"{name} is {str(value)[:_VALUE_CHARS]}, which no normal case has"))
        if found:
            return "; ".join(text for _, text in sorted(found, key=lambda each: (-each[0], each[1]))[:_MOST_FIELDS])
        near = next((case for case in verdict.precedents if case.label == verdict.leans), None)
        return f"values as of normal cases; like case {near.case_id}" if near else "values as of normal cases"
