"""Counts of a bulk run, and its templates that are not normal: how many records, seen first and last where and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, PrivateAttr

from agent.bulk.series_chart import SeriesChart, add_window
from agent.core.records import VERDICT_LABELS, Record, Verdict, VerdictLabel
from agent.core.terminal import plural
from agent.scoring.batch_rate import BatchProbabilities

# groups of a label that are listed on the screen and on the page
ON_SCREEN, ON_PAGE = 12, 200
_SPANS_PER_CHUNK = 16
# templates that are not normal beyond which the rarest are not listed, and how many are left then
_MOST_GROUPS, _KEPT_GROUPS = 20_000, 10_000
# beginnings of parts of the input beyond which every other one is dropped
_MOST_SPANS = 4_096
_TEMPLATE = re.compile(r"t[0-9a-f]{15}")


def first_of_each(numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    """The index of the first of each distinct number, none of which is below 0, in the order of the numbers."""
    first = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
    # of several values for one place the last one stays
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)
    return first[first >= 0]


@dataclass
class Seen:
    """A place in the input, and the time of the record there."""

    file: str
    line: int
    time: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" ({self.time})" if self.time else "")


@dataclass
class ScoredRecord:
    """A record that was judged by array, without a whole verdict."""

    label: VerdictLabel
    probability: float
    record: Record


@dataclass
class Group:
    """Records of one template and one label other than normal; ``verdict`` is that of the first."""

    template: str
    verdict: Verdict | ScoredRecord
    count: int
    first: Seen
    last: Seen

    @property
    def verdict_id(self) -> str:
        """The id of the first record's verdict; empty where there is no whole one."""
        return self.verdict.id if isinstance(self.verdict, Verdict) else ""

    @property
    def decides(self) -> str:
        """What the values have in common, of rows that are alike; empty for the records of a template."""
        return "" if _TEMPLATE.fullmatch(self.template) else self.template


@dataclass
class Span:
    """Consecutive records, and how many of them have each label."""

    start: Seen
    counts: dict[str, int]

    def joined(self, following: Span) -> Span:
        """With the records that follow."""
        counts = {label: count + following.counts.get(label, 0) for label, count in self.counts.items()}
        return Span(start=self.start, counts=counts)


class Summary(BaseModel):
    """What a bulk run found.

    Attributes
    ----------
    counts : dict of str to int
        Records by label.
    blank : int
        Blank lines.
    far : int
        Records that are far from every case.
    degraded : int
        Records whose verdict lacks a signal.
    lacking : dict of str to int
        The reasons for that, and how many records each affects.
    templates : int
        Distinct verdicts.
    kept : int
        Rows of tables that are not normal whose whole verdicts are kept although they are not the first of a group.
    llm_answers, llm_changed : int
        Answers of the language model, and how many of them changed the label of a template.
    seconds : float
        Duration, over all runs that were resumed.
    rate_note : str or None
        How the rate of anomalies differs from that of the cases, in words, if it does.
    groups : dict of str to Group
        By label and template.
    unlisted : int
        Templates that are not in ``groups`` because there are too many; of those that come again after that, the
        counts are too small.
    spans : list of Span
        The input in order, for the chart.
    charts : dict of str to SeriesChart
        The values of the first time series.
    """

    source: str
    counts: dict[str, int] = dict.fromkeys(VERDICT_LABELS, 0)
    blank: int = 0
    far: int = 0
    degraded: int = 0
    lacking: dict[str, int] = {}
    templates: int = 0
    kept: int = 0
    llm_answers: int = 0
    llm_changed: int = 0
    seconds: float = 0.0
    rate_note: str | None = None
    groups: dict[str, Group] = {}
    unlisted: int = 0
    spans: list[Span] = []
    charts: dict[str, SeriesChart] = {}
    _batch: BatchProbabilities = PrivateAttr(default_factory=BatchProbabilities)

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(self.counts.values())

    def ranked(self, label: str) -> list[Group]:
        """The groups of a label, those with most records first."""
        groups = [group for group in self.groups.values() if group.verdict.label == label]
        return sorted(groups, key=lambda group: (-group.count, -group.verdict.probability, group.template))

    def add(
        self,
        file: str,
        lines: NDArray[np.int64],
        labels: NDArray[np.int8],
        numbers: NDArray[np.int32],
        template_of: Callable[[int], str],
        verdict_of: Callable[[int], Verdict | ScoredRecord],
        times_of: Callable[[NDArray[np.int64]], list[str | None]],
    ) -> None:
        """Add records that follow those added before.

        Parameters
        ----------
        file : str
            The file that they are in.
        lines : ndarray of shape (n,)
            Their line numbers, ascending.
        labels : ndarray of shape (n,)
            Indices of their labels in `VERDICT_LABELS`.
        numbers : ndarray of shape (n,)
            Numbers of their template groups, of which several may have one template.
        template_of, verdict_of : callable
            Give the template of a group number, and the verdict on its first record.
        times_of : callable
            Gives the times of the records at an array of indices, shape (k,).
        """
        if not len(lines):
            return
        self._count(labels, self.counts)
        parts = np.array_split(np.arange(len(lines)), min(_SPANS_PER_CHUNK, len(lines)))
        indices = np.flatnonzero(labels != 0)
        counts = np.bincount(numbers[indices])
        distinct, counts = np.flatnonzero(counts), counts[counts > 0]
        first = indices[first_of_each(numbers[indices])]
        last = indices[::-1][first_of_each(numbers[indices][::-1])]
        templates = [template_of(number) for number in distinct.tolist()]
        of_labels = [VERDICT_LABELS[label] for label in labels[first].tolist()]
        names = [f"{label} {template}" for label, template in zip(of_labels, templates, strict=True)]
        is_new = np.array([name not in self.groups for name in names], np.bool_)
        places = np.unique(np.concatenate([[part[0] for part in parts], first[is_new], last]).astype(np.int64))
        seen = {
            place: Seen(file=file, line=int(lines[place]), time=time)
            for place, time in zip(places.tolist(), times_of(places), strict=True)
        }
        for part in parts:
            self.spans.append(
                Span(start=seen[int(part[0])], counts=self._count(labels[part], dict.fromkeys(VERDICT_LABELS, 0)))
            )
        # the order of the numbers is not that of the records in this chunk
        for i in np.argsort(first).tolist():
            if names[i] not in self.groups:
                verdict, place = verdict_of(int(distinct[i])), seen[int(first[i])]
                self.groups[names[i]] = Group(template=templates[i], verdict=verdict, count=0, first=place, last=place)
            self.groups[names[i]].count += int(counts[i])
        for i in np.argsort(last).tolist():
            self.groups[names[i]].last = seen[int(last[i])]
        self._bound()

    def _bound(self) -> None:
        """Keep what grows with the input below a size."""
        if len(self.groups) > _MOST_GROUPS:
            kept = sorted(self.groups.items(), key=lambda item: -item[1].count)[:_KEPT_GROUPS]
            self.unlisted += len(self.groups) - len(kept)
            self.groups = dict(kept)
        if len(self.spans) > _MOST_SPANS:
            pairs = zip(self.spans[::2], [*self.spans[1::2], None], strict=False)
            self.spans = [first if second is None else first.joined(second) for first, second in pairs]

    @staticmethod
    def _count(labels: NDArray[np.int8], counts: dict[str, int]) -> dict[str, int]:
        for label, count in zip(
            VERDICT_LABELS, np.bincount(labels, minlength=len(VERDICT_LABELS)).tolist(), strict=True
        ):
            counts[label] += count
        return counts

    def merge(self, other: Summary) -> None:
        """Add what was found of records that follow those added before, but for charts of time series."""
        for label, count in other.counts.items():
            self.counts[label] += count
        self.blank += other.blank
        self.far += other.far
        self.degraded += other.degraded
        self.templates += other.templates
        self._batch.merge(other.batch)
        for reason, count in other.lacking.items():
            self.lacking[reason] = self.lacking.get(reason, 0) + count
        self.spans += other.spans
        for name, group in other.groups.items():
            if name in self.groups:
                self.groups[name].count += group.count
                self.groups[name].last = group.last
            else:
                self.groups[name] = group
        self.unlisted += other.unlisted
        self._bound()

    def add_row(self, template: str, verdict: Verdict) -> None:
        """Count what is missing of, and how anomalous is, a record that is no line of a template."""
        self.add_degraded(verdict.degraded, 1)
        add_window(self.charts, verdict.record, verdict.label)
        self._batch.add(template, verdict.record.content_hash, verdict.probability)

    @property
    def batch(self) -> BatchProbabilities:
        """The probabilities of the records that are no lines of templates; of a resumed run only those since then."""
        return self._batch

    def add_degraded(self, reasons: Sequence[str], count: int) -> None:
        """Count the reasons for which a verdict of ``count`` records lacks a signal, if it does."""
        self.degraded += count * bool(reasons)
        for reason in reasons:
            self.lacking[reason] = self.lacking.get(reason, 0) + count

    def set_llm_use(self, earlier: Summary, answers: int, changed: int) -> None:
        """Set the use of the language model to that of the ``earlier`` runs and that of this one."""
        self.llm_answers = earlier.llm_answers + answers
        self.llm_changed = earlier.llm_changed + changed

    def to_line(self) -> str:
        """One line for a person."""
        labels = ", ".join(f"{self.counts[label]:,} {label}" for label in ("anomalous", "unsure", "normal"))
        changed = f", which changed {plural(self.llm_changed, 'label')}"
        calls = f", {plural(self.llm_answers, 'call')} of the language model{changed}" if self.llm_answers else ""
        rate = f" ({self.records / self.seconds:,.0f} a second)" if self.seconds else ""
        verdicts = f"; {plural(self.templates, 'distinct verdict')}" if self.templates < self.records else ""
        unlisted = f"; the {self.unlisted:,} rarest templates are not listed" if self.unlisted else ""
        return f"{plural(self.records, 'record')} in {self.seconds:.1f} s{rate}: {labels}{verdicts}{calls}{unlisted}"
