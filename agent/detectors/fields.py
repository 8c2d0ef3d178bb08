"""`fields`: the model of the record's numbers, categories and events (`agent.detectors.tabular`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.records import Signal
from agent.data.readers.notation import clock
from agent.detectors.base import DetectorInput
from retrieval.encoding.field_columns import Row
from retrieval.encoding.field_encoder import FieldEncoder, value_if_absent

if TYPE_CHECKING:
    from agent.detectors.tabular import TabularModel


@dataclass(frozen=True)
class FieldsDetector:
    """The signal `fields`.

    Parameters
    ----------
    model : callable
        Gives the source's model of fields, which takes time to load; None if there is none.
    normal : FieldEncoder or None
        Of the normal cases.
    durations : frozenset of str
        Columns of times, see `agent.data.readers.table_schema.TableSchema`.
    """

    model: Callable[[], TabularModel | None]
    normal: FieldEncoder | None
    durations: frozenset[str] = frozenset()
    name: str = "fields"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`: the trees' log-odds, or the outlier score where there are no trees.

        The facts are numbers far from the normal cases, and categories and steps that these do not have.
        """
        return [self._signal(record) if record.features else Signal() for record in records]

    def _signal(self, record: DetectorInput) -> Signal:
        model, events, scores = self.model(), record.record.events, record.field_scores
        facts = _facts(record.features, self.normal, self.durations) if self.normal else []
        if events and model:
            facts = [*model.facts_of_steps(events), *facts]
        log_odds = None if scores is None else scores[1] if scores[0] is None else scores[0]
        return Signal(log_odds=log_odds, facts=tuple(facts))


def _facts(row: Row, normal: FieldEncoder, durations: frozenset[str]) -> list[str]:
    far: list[tuple[float, str]] = []
    for name, knots in normal.numbers.items():
        value = row.get(name, value_if_absent(name))
        if value is None or isinstance(value, str):
            continue
        if knots[0] <= float(value) <= knots[-1]:
            continue
        side = "above" if float(value) > knots[-1] else "below"
        spread = (knots[-1] - knots[0]) or 1.0
        excess = (float(value) - knots[-1]) / spread if side == "above" else (knots[0] - float(value)) / spread
        shown, low, high = (
            clock(number) if name in durations else f"{number:g}" for number in (float(value), knots[0], knots[-1])
        )
        text = f"{name} is {shown}, {side} all normal cases ({low} to {high})"
        far.append((excess, text))
    unseen = [
        f"{name} is “{row[name]}”, which no normal case has"
        for name, known in normal.categories.items()
        if row.get(name) is not None and str(row[name]) not in known
    ]
    return [text for _, text in sorted(far, key=lambda item: -item[0])[:3]] + unseen[:3]
