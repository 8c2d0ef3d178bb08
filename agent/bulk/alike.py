"""Rows that are alike for a person: of other values than the normal cases have in the same fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.bulk.series_chart import group_name
from agent.core.records import Verdict
from agent.scoring.fusion import SourceModel
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_columns import Column, FieldColumns, FieldValue, Row
from retrieval.encoding.field_encoder import EventCount, FieldEncoder
from retrieval.encoding.field_encoder import features as features_of
from retrieval.encoding.session_block import SessionBlock

# fields that name a group, those that are farthest out
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
        near = next((case.case_id for case in verdict.precedents if case.label == verdict.leans), None)
        return self._outside(features_of(record.fields, record.events)) or _like(near)

    def names(
        self,
        features: FieldColumns | SessionBlock,
        nearest: Callable[[NDArray[np.int64]], list[str | None]],
        indices: NDArray[np.int64],
    ) -> list[str]:
        """As `name`, of the records at ``indices`` of a block; ``nearest`` gives the ids of their nearest cases."""
        names = [self._outside(row) for row in self._unlike(features.take(indices))]
        inside = [number for number, name in enumerate(names) if name is None]
        for number, near in zip(inside, nearest(indices[inside]) if inside else (), strict=True):
            names[number] = _like(near)
        return [name or "" for name in names]

    def _outside(self, row: Row) -> str | None:
        """The fields of a row that no normal case has such values of; None if it has none."""
        assert self.encoder is not None
        found = list[tuple[float, str]]()
        for name, value in row.items():
            known = self.encoder.categories.get(name)
            if value is None or (known is None and name not in self.encoder.numbers):
                continue
            if known is not None:
                if str(value) not in known:
                    found.append((0.5, f"{name} is {str(value)[:_VALUE_CHARS]}, which no normal case has"))
                continue
            low, high, span = self._range(name)
            if isinstance(value, str):
                found.append((float("inf"), f"{name} is no number"))
            elif float(value) > high:
                found.append(((float(value) - high) / span, f"{name} above {high:g}, the most of the normal cases"))
            elif float(value) < low:
                found.append(((low - float(value)) / span, f"{name} below {low:g}, the least of the normal cases"))
        farthest = sorted(found, key=lambda each: (-each[0], each[1]))[:_MOST_FIELDS]
        # which of them is farther out makes no group of its own
        return "; ".join(sorted(text for _, text in farthest)) or None

    def _range(self, name: str) -> tuple[float, float, float]:
        """The least and the greatest number of a column in the normal cases, and how far apart they are."""
        assert self.encoder is not None
        low, *_, high = self.encoder.numbers[name]
        return low, high, (high - low) or max(abs(high), 1.0)

    def _unlike(self, features: FieldColumns | SessionBlock) -> list[dict[str, FieldValue]]:
        """Of n rows or sessions the features that may be such as no normal case has."""
        assert self.encoder is not None
        columns = features if isinstance(features, FieldColumns) else features.columns(self.encoder.numbers)
        unlike: list[dict[str, FieldValue]] = [{} for _ in range(len(columns))]
        names = columns.names
        for name in filter(self.encoder.numbers.__contains__, names):
            column, (low, high, _) = columns[name], self._range(name)
            outside = (column.codes >= 0) | (column.numbers > high) | (column.numbers < low)
            # sessions lack the events that they have none of
            outside &= column.numbers != 0 if isinstance(name, EventCount) else True
            _set(unlike, name, column, outside)
        for name in filter(self.encoder.categories.__contains__, names):
            column = columns[name]
            _set(unlike, name, column, column.filled & ~column.is_among(frozenset(self.encoder.categories[name])))
        return unlike


def _set(rows: list[dict[str, FieldValue]], name: str, column: Column, chosen: NDArray[np.bool_]) -> None:
    for i in np.flatnonzero(chosen).tolist():
        rows[i][name] = column.value(i)


def _like(case_id: str | None) -> str:
    return f"values as of normal cases; like case {case_id}" if case_id else "values as of normal cases"
