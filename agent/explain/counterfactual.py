"""What would make a record normal: the smallest change of one or two of its fields.

A field is moved to values that normal cases have; how far is counted in quantiles of these, another category being one
step (Wachter, Mittelstadt & Russell 2017, "Counterfactual explanations without opening the black box": sparse, and
nearest when each feature's distance is scaled by its spread). The field model proposes; what is said was judged again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from agent.core.records import BETWEEN_EVENTS, FieldValue, Record
from agent.detectors.tabular import TabularModel
from agent.explain.diff import quote_text
from agent.scoring.fusion import LogOdds, SourceModel, fuse
from retrieval.encoding.field_encoder import FieldEncoder, features
from retrieval.text.masking import kind_of_event

_MOST_FIELDS = 2
_BEGINNINGS = 3
_JUDGED = 2
_COUNT = "count of "
# of a session: they follow from its other counts
_TOTALS = ("events", "kinds of event")
_EVERY_KNOT = 4
_COMMONEST = 3


@dataclass(frozen=True)
class FeatureChange:
    """One field brought from ``old`` to ``new``; ``steps``: how far, 0 to 1 in quantiles of the normal cases."""

    name: str
    old: FieldValue
    new: float | str
    steps: float

    def __str__(self) -> str:
        name, which = self.name, ""
        if name.startswith(_COUNT):
            name = _COUNT + quote_text(name.removeprefix(_COUNT))
            more = float(self.new) - float(self.old or 0)
            # the order of a session is judged too
            which = ", more at its end" if more > 0 else ", the first ones kept" if self.new else ""
        return f"{name} were {_shown(self.new)} (it is {_shown(self.old)}{which})"


@dataclass(frozen=True)
class Perturbation:
    """How a record is judged, for the record as it might have been.

    ``signals`` are all witnesses' log-odds of the record as it is; ``is_normal`` says whether a changed record is
    judged normal, with all witnesses heard.
    """

    record: Record
    model: TabularModel
    judge: SourceModel
    signals: LogOdds
    is_normal: Callable[[Record], bool]

    def log_odds(self, every: list[tuple[FeatureChange, ...]]) -> list[float]:
        """What the field model says of the record after each of these changes."""
        if not every:
            return []
        row = features(self.record.fields, self.record.events)
        rows = [moved_row(row, moves) for moves in every]
        sessions = [moved(self.record, moves).events for moves in every]
        return [odd if trees is None else trees for trees, odd in self.model.signals(rows, sessions)]

    def promises(self, field_log_odds: float) -> bool:
        """Whether the label were normal if the field model said so much, and the others what they say."""
        probability, fusion = fuse(self.judge, {**self.signals, "fields": field_log_odds}, known=False)
        return fusion.label(probability) == "normal"

    def judged_normal(self, moves: tuple[FeatureChange, ...]) -> bool:
        return self.is_normal(moved(self.record, moves))


def counterfactual(retrial: Perturbation, normal: FieldEncoder, kept: Collection[str]) -> str | None:
    """``would be normal if …``; None where no change of at most two fields, all but the ``kept``, was found.

    At most six changed records are judged.
    """
    moves = smallest_change(retrial, [move for move in _options(retrial.record, normal) if move.name not in kept])
    return "would be normal if " + " and ".join(map(str, moves)) if moves else None


def smallest_change(retrial: Perturbation, options: list[FeatureChange]) -> tuple[FeatureChange, ...]:
    """One of ``options`` with which the record is judged normal, or two of different fields (greedily), or none."""
    beginnings: list[tuple[FeatureChange, ...]] = [()]
    for _ in range(_MOST_FIELDS):
        tried = [
            (*beginning, move)
            for beginning in beginnings
            for move in options
            if all(move.name != other.name for other in beginning)
        ]
        said = dict(zip(tried, retrial.log_odds(tried), strict=True))
        promising = [moves for moves in tried if retrial.promises(said[moves])]
        promising.sort(key=lambda moves: (sum(move.steps for move in moves), said[moves]))
        # where other witnesses weigh more than the fields, they may yet follow the most telling change
        for moves in promising[:_JUDGED] or sorted(tried, key=said.__getitem__)[:1]:
            if retrial.judged_normal(moves):
                enough = said[moves]
                for place in range(len(moves)):
                    moves = _tightened(retrial, moves, place, enough)
                return moves
        best: dict[str, tuple[FeatureChange, ...]] = {}
        for moves in sorted(tried, key=said.__getitem__):
            best.setdefault(moves[-1].name, moves)
        beginnings = list(best.values())[:_BEGINNINGS]
    return ()


def moved(record: Record, moves: tuple[FeatureChange, ...]) -> Record:
    """The record after the moves; of a session, with as many of its events."""
    fields, events = dict(record.fields), list(record.events)
    for move in moves:
        if record.events and move.name.startswith(_COUNT):
            events = _with(events, move.name.removeprefix(_COUNT), int(move.new))
        else:
            fields[move.name] = move.new
    spelt_out = bool(record.events) and record.text == BETWEEN_EVENTS.join(record.events)
    text = BETWEEN_EVENTS.join(events) if spelt_out else record.text
    return record.model_copy(update={"text": text, "fields": fields, "events": tuple(events)})


def _with(events: list[str], masked: str, count: int) -> list[str]:
    places = [place for place, event in enumerate(events) if kind_of_event(event) == masked]
    gone = set(places[count:])
    more = [events[places[-1]] if places else masked] * (count - len(places))
    return [event for place, event in enumerate(events) if place not in gone] + more


def moved_row(row: dict[str, FieldValue], moves: tuple[FeatureChange, ...]) -> dict[str, FieldValue]:
    """Features of the moved record, without making it."""
    out = {**row, **{move.name: move.new for move in moves}}
    for move in moves:
        if move.name.startswith(_COUNT) and "kinds of event" in row:
            old, new = float(move.old or 0), float(move.new)
            for total, more in zip(_TOTALS, (new - old, float(new > 0) - float(old > 0)), strict=True):
                out[total] = float(out[total] or 0) + more
    return out


def _options(record: Record, normal: FieldEncoder) -> Iterator[FeatureChange]:
    """Every field at every fourth of its normal knots, or as one of the three commonest categories."""
    row = features(record.fields, record.events)
    for name, knots in normal.numbers.items():
        counts = bool(record.events) and name.startswith(_COUNT)
        old = row.get(name, 0.0 if counts else None)
        if record.events and name in _TOTALS:
            continue
        for new in sorted({float(round(knot)) if counts else float(_shown(knot)) for knot in knots[::_EVERY_KNOT]}):
            if old is None or isinstance(old, str):
                yield FeatureChange(name, old, new, 1.0)
            elif new != old and not (counts and new == 0 and old == len(record.events)):
                yield FeatureChange(name, old, new, abs(normal.quantile(name, float(old)) - normal.quantile(name, new)))
    for name, known in normal.categories.items():
        old = row.get(name)
        yield from (FeatureChange(name, old, new, 1.0) for new in known[:_COMMONEST] if old is None or new != str(old))
    for name, old in row.items():
        if record.events and name.startswith(_COUNT) and name not in normal.numbers and old != len(record.events):
            yield FeatureChange(name, old, 0.0, 1.0)


def _tightened(
    retrial: Perturbation, moves: tuple[FeatureChange, ...], place: int, enough: float
) -> tuple[FeatureChange, ...]:
    """The moves, one of them shorter, to a round number, if field log-odds of ``enough`` or a normal label remain."""
    move = moves[place]
    if isinstance(move.new, str) or isinstance(move.old, str) or move.old is None:
        return moves
    whole = all(float(end).is_integer() for end in (move.old, move.new))
    tried = [
        (*moves[:place], replace(move, new=value), *moves[place + 1 :])
        for value in _between(float(move.old), move.new, whole)
    ]
    for shorter, log_odds in zip(tried, retrial.log_odds(tried), strict=True):
        if retrial.promises(log_odds) or log_odds <= enough:
            return shorter if retrial.judged_normal(shorter) else moves
    return moves


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


def _shown(value: FieldValue) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str):
        return quote_text(value)
    exact = f"{value:.15g}"
    return exact if len(exact) <= 12 else f"{value:g}"
