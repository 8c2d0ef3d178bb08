"""Rows that are alike for a person: of other values than the normal cases have in the same fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.bulk.series_chart import group_name
from agent.core.records import Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers.notation import clock
from agent.scoring.fusion import SourceModel
from retrieval.arrays import Floats, Ints
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_columns import Column, FieldColumns
from retrieval.encoding.field_encoder import EventCount, FieldEncoder
from retrieval.encoding.field_encoder import features as features_of
from retrieval.encoding.session_block import SessionBlock

# fields that name a group, those that are farthest out
_MOST_FIELDS = 2
_VALUE_CHARS = 40


@dataclass(frozen=True)
class AlikeRows:
    """Names the group of a row.

    Parameters
    ----------
    encoder : FieldEncoder or None
        Of the normal cases' fields; None where records are compared by text.
    durations : frozenset of str
        Columns of times, see `agent.data.readers.table_schema.TableSchema`.
    """

    encoder: FieldEncoder | None
    durations: frozenset[str]

    @classmethod
    def of(cls, row: SourceSnapshot) -> AlikeRows:
        """The groups of a source's records."""
        model = SourceModel.of(row.source_model, row.counts)
        by_fields = row.representation is not None and row.representation.field_encoder is not None
        fitted = model.normal_field_encoder if by_fields else None
        durations = ReadOptions.model_validate(row.reading or {}).table.durations
        return cls(FieldEncoder.from_json(fitted) if fitted else None, durations)

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
        (outside,) = self._outside(FieldColumns.of([features_of(record.fields, record.events)]))
        return outside or _like(near)

    def names(
        self,
        features: FieldColumns | SessionBlock,
        nearest: Callable[[NDArray[np.int64]], list[str | None]],
        indices: NDArray[np.int64],
    ) -> list[str]:
        """As `name`, of the records at ``indices`` of a block; ``nearest`` gives the ids of their nearest cases."""
        assert self.encoder is not None
        chosen = features.take(indices)
        names = self._outside(chosen if isinstance(chosen, FieldColumns) else chosen.columns(self.encoder.numbers))
        inside = [number for number, name in enumerate(names) if name is None]
        for number, near in zip(inside, nearest(indices[inside]) if inside else (), strict=True):
            names[number] = _like(near)
        return [name or "" for name in names]

    def _outside(self, columns: FieldColumns) -> list[str | None]:
        """The fields of each of n rows that no normal case has such values of; None if it has none."""
        found = list(self._findings(columns))
        if not found:
            return [None] * len(columns)
        texts = sorted({text for _, _, text in found})
        place_of = {text: place for place, text in enumerate(texts)}
        rows = np.concatenate([indices for indices, _, _ in found])
        distances = np.concatenate([distances for _, distances, _ in found])
        places = np.repeat([place_of[text] for _, _, text in found], [len(indices) for indices, _, _ in found])
        order = np.lexsort((places, -distances, rows))
        rows, places = rows[order], places[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        farthest = np.full((len(columns), _MOST_FIELDS), -1)
        kept = rank < _MOST_FIELDS
        farthest[rows[kept], rank[kept]] = places[kept]
        # which of them is farther out makes no group of its own
        distinct, inverse = np.unique(np.sort(farthest, axis=1), axis=0, return_inverse=True)
        names = ["; ".join(texts[place] for place in group if place >= 0) or None for group in distinct.tolist()]
        return [names[number] for number in inverse.ravel().tolist()]

    def _findings(self, columns: FieldColumns) -> Iterator[tuple[Ints, Floats, str]]:
        """Values that no normal case has: in which rows, shape (k,), how far out each is, and the values in words."""
        assert self.encoder is not None
        for name in columns.names:
            column = columns[name]
            if (known := self.encoder.categories.get(name)) is not None:
                codes, words = column.written
                indices = np.flatnonzero(column.filled & ~column.is_among(frozenset(known)))
                indices = indices[np.argsort(codes[indices], kind="stable")]
                for of_value in np.split(indices, np.flatnonzero(np.diff(codes[indices])) + 1) if len(indices) else ():
                    text = f"{name} is {words[codes[of_value[0]]][:_VALUE_CHARS]}, which no normal case has"
                    yield of_value, np.full(len(of_value), 0.5), text
            elif name in self.encoder.numbers:
                yield from self._numbers_outside(name, column)

    def _numbers_outside(self, name: str, column: Column) -> Iterator[tuple[Ints, Floats, str]]:
        low, high, span = self._range(name)
        least, most = (clock(end) if name in self.durations else f"{end:g}" for end in (low, high))
        numbers = column.numbers
        # sessions lack the events that they have none of
        lacks = numbers == 0 if isinstance(name, EventCount) else np.zeros(len(numbers), bool)
        for outside, distances, text in (
            (column.codes >= 0, np.full(len(numbers), np.inf), "is no number"),
            ((numbers > high) & ~lacks, (numbers - high) / span, f"above {most}, the most of the normal cases"),
            ((numbers < low) & ~lacks, (low - numbers) / span, f"below {least}, the least of the normal cases"),
        ):
            if len(indices := np.flatnonzero(outside)):
                yield indices, distances[indices], f"{name} {text}"

    def _range(self, name: str) -> tuple[float, float, float]:
        """The least and the greatest number of a column in the normal cases, and how far apart they are."""
        assert self.encoder is not None
        low, *_, high = self.encoder.numbers[name]
        return low, high, (high - low) or max(abs(high), 1.0)


def _like(case_id: str | None) -> str:
    return f"values as of normal cases; like case {case_id}" if case_id else "values as of normal cases"
