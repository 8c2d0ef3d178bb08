"""What would make a record normal: the smallest change of one or two of its fields.

A field is moved to values that normal cases have. The distance is counted in quantiles of these values, and another
category is one step (Wachter, Mittelstadt & Russell 2017, "Counterfactual explanations without opening the black box":
sparse, and nearest when each feature's distance is scaled by its spread). The field model proposes changes; a change is
reported only after the changed record was judged normal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from agent.core.records import BETWEEN_EVENTS, FieldValue, Record
from agent.data.readers.notation import clock
from agent.data.readers.values import spell_out
from agent.data.record_reading import has_own_text
from agent.detectors.tabular import TabularModel
from agent.explain.diff import quote_text
from agent.scoring.fusion import LogOdds, SourceModel, fuse
from retrieval.encoding.field_columns import Column, FieldColumns
from retrieval.encoding.field_encoder import EventCount, FieldEncoder, features, value_if_absent
from retrieval.encoding.session_block import SessionBlock
from retrieval.text.masking import kind_of_event

_MAX_FIELDS = 2
# first changes that a second one is added to; promising changes that are judged
_BEAM, _MAX_JUDGED = 3, 2
# features of a session that follow from its event counts
_TOTALS = ("events", "kinds of event")
_KNOT_STEP, _COMMONEST = 4, 3


@dataclass(frozen=True)
class FeatureChange:
    """One feature changed from ``old`` to ``new``; ``steps``: the distance, 0 to 1 in quantiles of normal cases."""

    name: str
    old: FieldValue
    new: float | str
    steps: float

    def __str__(self) -> str:
        return self.in_words(frozenset())

    def in_words(self, durations: Collection[str]) -> str:
        """``FIELD were NEW (it is OLD)``; the values of ``durations`` as times."""
        name, places = self.name, ""
        if isinstance(self.name, EventCount):
            name = f"count of {quote_text(self.name.event)}"
            added = float(self.new) - float(self.old or 0)
            # the verdict on a session depends on its order too
            places = ", more at its end" if added > 0 else ", the first ones kept" if self.new else ""
        is_time = self.name in durations
        new, old = (_shown(value, is_time=is_time) for value in (self.new, self.old))
        return f"{name} were {new} (it is {old}{places})"


Changes = tuple[FeatureChange, ...]


@dataclass(frozen=True)
class Perturbation:
    """How changed versions of a record are judged.

    Parameters
    ----------
    record : Record
    model : TabularModel
        Proposes changes.
    source_model : SourceModel
    signals : mapping
        Log-odds of all detectors for the unchanged record.
    is_normal : callable
        Whether a changed record is judged normal by all detectors.
    """

    record: Record
    model: TabularModel
    source_model: SourceModel
    signals: LogOdds
    is_normal: Callable[[Record], bool]

    def log_odds(self, candidates: list[Changes]) -> list[float]:
        """The field model's log-odds of the record after each of the candidates."""
        if not candidates:
            return []
        row = features(self.record.fields, self.record.events)
        if self.record.events:
            rows = FieldColumns.of([moved_row(row, changes) for changes in candidates])
            sessions = SessionBlock.of([moved(self.record, changes).events for changes in candidates])
            trees, outlier_score = self.model.scores(rows, sessions)
        else:
            trees, outlier_score = self.model.scores(_moved_columns(row, candidates))
        odds: list[float] = (outlier_score if trees is None else trees).tolist()
        return odds

    def promises(self, field_log_odds: float) -> bool:
        """Whether the label would be normal with these log-odds of the fields, all other signals unchanged."""
        probability, fusion = fuse(self.source_model, {**self.signals, "fields": field_log_odds}, known=False)
        return fusion.label(probability) == "normal"

    def judged_normal(self, changes: Changes) -> bool:
        """Whether the changed record is judged normal by all detectors."""
        return self.is_normal(moved(self.record, changes))


def counterfactual(
    perturbation: Perturbation, normal: FieldEncoder, kept: Collection[str], durations: Collection[str] = ()
) -> str | None:
    """``would be normal if …``; None if no change of at most two fields, none of them ``kept``, was found.

    At most six changed records are judged.
    """
    options = [change for change in _options(perturbation.record, normal) if change.name not in kept]
    changes = smallest_change(perturbation, options)
    return "would be normal if " + " and ".join(change.in_words(durations) for change in changes) if changes else None


def smallest_change(perturbation: Perturbation, options: list[FeatureChange]) -> Changes:
    """One of ``options`` with which the record is judged normal, or two of different fields (greedily), or none."""
    beam: list[Changes] = [()]
    for _ in range(_MAX_FIELDS):
        candidates = [
            (*first, change)
            for first in beam
            for change in options
            if all(change.name != other.name for other in first)
        ]
        log_odds = dict(zip(candidates, perturbation.log_odds(candidates), strict=True))
        promising = [changes for changes in candidates if perturbation.promises(log_odds[changes])]
        promising.sort(key=lambda changes: (sum(change.steps for change in changes), log_odds[changes]))
        # where other signals weigh more than the fields, they may follow the strongest change
        for changes in promising[:_MAX_JUDGED] or sorted(candidates, key=log_odds.__getitem__)[:1]:
            if perturbation.judged_normal(changes):
                enough = log_odds[changes]
                for index in range(len(changes)):
                    changes = _tightened(perturbation, changes, index, enough)
                return changes
        best: dict[str, Changes] = {}
        for changes in sorted(candidates, key=log_odds.__getitem__):
            best.setdefault(changes[-1].name, changes)
        beam = list(best.values())[:_BEAM]
    return ()


def moved(record: Record, changes: Changes) -> Record:
    """The changed record; of a session, with events added or removed to match its counts; of a row, with its text."""
    fields, events = dict(record.fields), list(record.events)
    for change in changes:
        if isinstance(change.name, EventCount):
            events = _with_count(events, change.name.event, int(change.new))
        else:
            fields[change.name] = change.new
    spelt_out = bool(record.events) and record.text == BETWEEN_EVENTS.join(record.events)
    text = BETWEEN_EVENTS.join(events) if spelt_out else record.text
    if fields and not record.events and not has_own_text(record):
        text = spell_out(fields)
    return record.model_copy(update={"text": text, "fields": fields, "events": tuple(events)})


def _with_count(events: list[str], masked: str, count: int) -> list[str]:
    indices = [index for index, event in enumerate(events) if kind_of_event(event) == masked]
    removed = set(indices[count:])
    added = [events[indices[-1]] if indices else masked] * (count - len(indices))
    return [event for index, event in enumerate(events) if index not in removed] + added


def moved_row(row: dict[str, FieldValue], changes: Changes) -> dict[str, FieldValue]:
    """The features of `moved`, without making the record."""
    out = {**row, **{change.name: change.new for change in changes}}
    for change in changes:
        if isinstance(change.name, EventCount):
            old, new = float(change.old or 0), float(change.new)
            for total, added in zip(_TOTALS, (new - old, float(new > 0) - float(old > 0)), strict=True):
                out[total] = float(out[total] or 0) + added
    return out


def _moved_columns(row: dict[str, FieldValue], candidates: list[Changes]) -> FieldColumns:
    """The rows of a table that `moved_row` makes, by column: there may be thousands of hundreds of columns."""
    moves = defaultdict[str, list[tuple[int, FieldValue]]](list)
    for number, changes in enumerate(candidates):
        for change in changes:
            moves[change.name].append((number, change.new))
    row_columns, columns = FieldColumns.of([row]), dict[str, Column]()
    for name in dict.fromkeys([*row, *moves]):
        codes = np.zeros(len(candidates), np.int64)
        # the value of the row, and then those that it is changed to
        codes[[number for number, _ in moves[name]]] = np.arange(1, len(moves[name]) + 1)
        columns[name] = row_columns[name].followed_by(Column.of([new for _, new in moves[name]])).take(codes)
    return FieldColumns(len(candidates), columns)


def _options(record: Record, normal: FieldEncoder) -> Iterator[FeatureChange]:
    """Every number at every fourth knot of the normal cases, every category as one of the three commonest values."""
    row = features(record.fields, record.events)
    for name, knots in normal.numbers.items():
        counts = isinstance(name, EventCount)
        if (record.events and name in _TOTALS) or (counts and not record.events):
            continue
        old = row.get(name, value_if_absent(name))
        for new in sorted({float(round(knot)) if counts else float(_shown(knot)) for knot in knots[::_KNOT_STEP]}):
            if old is None or isinstance(old, str):
                yield FeatureChange(name, old, new, 1.0)
            elif new != old and not (counts and new == 0 and old == len(record.events)):
                yield FeatureChange(name, old, new, abs(normal.quantile(name, float(old)) - normal.quantile(name, new)))
    for name, known in normal.categories.items():
        old = row.get(name)
        yield from (FeatureChange(name, old, new, 1.0) for new in known[:_COMMONEST] if old is None or new != str(old))
    for name, old in row.items():
        if isinstance(name, EventCount) and name not in normal.numbers and old != len(record.events):
            yield FeatureChange(name, old, 0.0, 1.0)


def _tightened(perturbation: Perturbation, changes: Changes, index: int, enough: float) -> Changes:
    """The changes, one of them smaller and to a round number, if field log-odds of ``enough`` or the label remain."""
    change = changes[index]
    if isinstance(change.new, str) or isinstance(change.old, str) or change.old is None:
        return changes
    whole = all(float(end).is_integer() for end in (change.old, change.new))
    candidates = [
        (*changes[:index], replace(change, new=value), *changes[index + 1 :])
        for value in _between(float(change.old), change.new, whole)
    ]
    for smaller, log_odds in zip(candidates, perturbation.log_odds(candidates), strict=True):
        if perturbation.promises(log_odds) or log_odds <= enough:
            return smaller if perturbation.judged_normal(smaller) else changes
    return changes


def _between(old: float, new: float, whole: bool) -> list[float]:
    """At most 99 round numbers between two, those nearest to ``old`` first."""
    span = abs(new - old)
    if not 1e-300 < span < 1e300:
        return []
    digits = 1 - math.floor(math.log10(span))
    if whole:
        digits = min(digits, 0)
    step = 10.0**-digits
    low, high = sorted((old, new))
    values = [round(k * step, digits) for k in range(math.floor(low / step) + 1, math.ceil(high / step))]
    return sorted((value for value in values if low < value < high), key=lambda value: abs(value - old))


def _shown(value: FieldValue, *, is_time: bool = False) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str):
        return quote_text(value)
    if is_time:
        return clock(value)
    exact = f"{value:.15g}"
    return exact if len(exact) <= 12 else f"{value:g}"
